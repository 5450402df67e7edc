"""The search space and the settings of a search."""
