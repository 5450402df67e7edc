"""The layouts in which image folders come, one per file."""
