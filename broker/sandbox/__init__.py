"""
A strict authorization server that runs on loopback, for tests and for people who want to look.

Contrary by design: it refuses whatever a real server of FAPI level refuses, and does on command what a bad
day does. It shares no code with the broker and imports no other package of it, so that neither side's
mistakes are hidden by the other's. It must never listen anywhere but on loopback, and never be trusted: its
keys are new at every start and its metadata says what it is.

``running.Sandbox.start`` runs one inside a test, ``token-broker sandbox`` as a process of its own, which
``control_client.ControlClient`` commands from outside.
"""
