"""
The protocol, without I/O.

It drafts requests (form, headers, unsigned JWTs) and reads responses, strictly. No clock, no randomness,
no sockets, no asyncio, no logging, no private keys: whoever completes a draft brings those.
"""
