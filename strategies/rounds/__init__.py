"""The rounds of a run."""
