"""Differential privacy: what a release costs, what was spent, the noise that pays for it."""
