"""Encrypted inference over lines of several delays and rates."""
