"""
The process and its host: clocks and chance, what the kernel is asked to keep from others, and the service manager.

The only package that talks to the operating system for its own sake. It must not know anything of tokens,
keys or HTTP.
"""
