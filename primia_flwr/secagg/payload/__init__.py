"""The numbers of a secure sum: vectors of reals, named integers, and their masks.

Exact and without wrapping by construction. Imports `primitives`; the protocol, messages and both
apps import it.
"""
