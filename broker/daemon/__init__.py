"""
The running process: start, signals, drain, stop.

It puts the parts that ``broker.wiring`` builds to work and takes them down again, in one task group with
named tasks. It must not know how any of them works.
"""
