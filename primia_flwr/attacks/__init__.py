"""Attacks that test the protection: gradient inversion and membership inference."""
