"""
A token broker: it owns keys and tokens so that the workloads beside it need not.

This package holds nothing but the version. The packages below it are layered; the import contracts in
``pyproject.toml`` say who may know whom, and the tests check them.
"""

__version__ = "0.1.0"
