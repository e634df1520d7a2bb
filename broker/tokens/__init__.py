"""
The life of access tokens: when to get one, how long it is served, what a failure means.

It reaches the world only through the ports in ``ports``; ``state``, ``schedule``, ``spec`` and ``breaker``
are pure and never await.
"""
