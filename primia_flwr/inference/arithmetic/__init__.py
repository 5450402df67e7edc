"""Arithmetic in the ring modulo 2^64, and randomness in it."""
