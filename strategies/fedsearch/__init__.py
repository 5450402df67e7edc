"""Federated search inside one run."""
