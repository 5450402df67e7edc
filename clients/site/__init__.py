"""The opened site, its state and its identity."""
