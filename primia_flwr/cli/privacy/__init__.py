"""`primia privacy`."""
