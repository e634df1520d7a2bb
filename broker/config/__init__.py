"""
The configuration file: from TOML to checked settings, in the value types of the components.

Nothing below this package knows TOML, and nothing here opens a file that the configuration names.
"""
