"""Differential privacy: what a release costs, what has been spent, and noise that pays for it."""
