"""
Token file sinks: an access token in a file, for programs that can read nothing else.

A sink is a standing user of its token: it gets what a caller of the local API would get, and the file never holds
anything else. The files, and the programs that are told of them, are reached through ports, so that what is decided
here can be tested without either. This package must not talk to servers or callers.
"""
