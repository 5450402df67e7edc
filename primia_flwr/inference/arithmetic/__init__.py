"""Numbers modulo 2^64: fixed point, shares, exact products on a device, fresh randomness.

The lowest room of encrypted inference: imports none of the others, and all of them may import
it.
"""
