"""
The process and its host: clocks and chance, and what the kernel is asked to keep from others.

The only package that talks to the operating system for its own sake. It must not know anything of tokens,
keys or HTTP.
"""
