"""
Bytes to an authorization server and back: one session for each certificate generation.

The public faces are ``session.Session`` and ``metadata.Metadata``, which fill ports of ``broker.tokens``.
Nothing of aiohttp, ssl or the socket module leaves this package: ``failures`` turns what they raise into
``RemoteError``. This package does not know keys: it is handed a finished SSL context.
"""
