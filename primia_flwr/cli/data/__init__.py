"""`primia data`."""
