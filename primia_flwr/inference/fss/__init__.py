"""Comparison of secret-shared numbers with what a dealer sends: ReLU in one opening more.

`compare` is what the parties do, `dealing` what the dealer does; `digits`, `choice`, `dpf` are the
parts, `keys` their bytes, `seeded` what is not sent, `prg` what trees are drawn from. Imports
arithmetic; preprocessing deals, the protocol compares.
"""
