"""The cost of releases, planned before a run and filtered between runs."""
