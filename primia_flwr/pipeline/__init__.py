"""One experiment from its data to its report."""
