"""
Who may have what. Pure: a decision is a function of a peer, the rules, an action and a name.

No I/O, no names of users or groups (they are resolved to numbers when the configuration is loaded), no
exceptions: the answer is a value.
"""
