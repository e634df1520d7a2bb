"""
Calls of APIs with a token and with what it is bound to (rules.md R6).

What a caller may ask for was decided before; here it is decided what of its request goes out and what of the
reply comes back, and with which certificate. This package opens no connection itself, and logs nothing.
"""
