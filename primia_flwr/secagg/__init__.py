"""Secure aggregation: sums over many sites and nothing of any one; bytes and arrays only."""
