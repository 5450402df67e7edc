"""The lists and numbers that a site remembers, so that no two sums can be subtracted."""
