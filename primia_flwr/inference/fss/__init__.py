"""Comparison of secret-shared numbers by function secret sharing.

`dpf` and `keys` are the keys, `prg` what they are drawn from, `compare` the comparison. Imports
arithmetic; preprocessing deals the keys, the protocol uses them.
"""
