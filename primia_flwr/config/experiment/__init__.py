"""The sections of an experiment, one a file, and `schema`, the tree of them.

Plain frozen values: what crosses the network holds no target, no interpolation and no alias.
Imports the checks of `config`; every room that reads an experiment imports it.
"""
