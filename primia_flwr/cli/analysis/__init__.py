"""`primia evaluate`, `primia compare` and `primia attack`."""
