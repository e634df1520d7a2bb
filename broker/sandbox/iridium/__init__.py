"""
A fake Iridium on loopback: as its page says it is, and as it was observed to be.

Each point where the two differ is a switch (``switches.Switch``) with two settings, so that a test can meet the
server that was documented, the one that was observed, or any mixture of both. Two fake external providers belong
to it, one in the manner of GitHub and one in that of Google.

It has no metadata, so that nothing in its answers says what it is, and its configuration has no ``sandbox = true``:
what keeps it from being trusted by mistake is that it listens on loopback only, and that its certificate authority
is new at every start and can vouch for loopback names only.

``running.Iridium.start`` runs one inside a test, ``token-broker sandbox --dialect iridium`` as a process of its own.
"""
