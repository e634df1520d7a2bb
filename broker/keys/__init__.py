"""
Private keys and certificates: read, checked, and put to use. A private key never leaves this package.

What leaves it: finished SSL contexts (``identity``, ``tls``), signatures and public keys (``signer``), sealed
records (``sealing``), thumbprints and dates. No function returns a private key, its file's bytes or a passphrase
to another package, with two exceptions: ``files.read_private`` reads any file that must be secret, and whoever
calls it owns what comes back; ``client_secrets`` gives what has to go over the wire as it is.

Laws of this package. Files are read only through ``files``, so that every one is held to the same rules
(rules.md R8). What was checked is what is used: a file is opened once and parsed once, and OpenSSL is given
the parsed value through memory, never a path that could hold something else by then. Nothing is written to
a disk. No clock is read: the time is an argument. Loading blocks (files, and tens of milliseconds of
arithmetic for RSA) and belongs in a thread; only ``SigningKey.sign`` is a coroutine. Everything that goes
wrong is a ``LocalError`` that names the path and what to do; no exception of cryptography, joserfc or ssl
passes, and none is kept as a cause, because they may quote what they choked on.

Python cannot erase memory: copies of a decoded key may live on in freed pages until they are reused. What
helps against that is outside: no core dumps, no debugger (``broker.hostenv.hardening``).
"""
