"""The command `jaxae`: flags, a run from its settings to its folder, results, files.

Its parts are imported by name, so that `jaxae --list` waits for little.
"""
