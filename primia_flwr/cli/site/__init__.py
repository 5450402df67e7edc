"""`primia site`."""
