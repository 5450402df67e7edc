"""The check that no compared number left its ring."""
