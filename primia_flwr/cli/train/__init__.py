"""`primia train`."""
