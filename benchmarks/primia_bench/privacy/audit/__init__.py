"""Attacks on the private mechanisms, and the claims that they are held to."""
