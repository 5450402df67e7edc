"""Secure aggregation at the coordinator."""
