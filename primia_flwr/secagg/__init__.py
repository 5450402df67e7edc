"""Secure aggregation: sums over many sites and nothing of any one; bytes and arrays only.

`payload` are the numbers, `protocol` the messages of one sum, `state` what a site remembers.
Neither torch nor Flower: imports `primitives` and `storage`; messages, runs and both apps
import it.
"""
