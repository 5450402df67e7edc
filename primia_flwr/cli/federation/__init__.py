"""`primia provision`, `primia federation` and `primia secagg`."""
