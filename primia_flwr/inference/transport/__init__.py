"""Mutually authenticated connections and what travels on them."""
