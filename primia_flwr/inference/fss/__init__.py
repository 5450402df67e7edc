"""Comparison of secret-shared numbers by function secret sharing."""
