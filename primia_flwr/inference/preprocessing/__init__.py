"""Correlated randomness: dealt, fetched ahead and kept."""
