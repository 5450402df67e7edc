"""The chapters of a run's report."""
