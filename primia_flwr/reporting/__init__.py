"""Pages, tables and cards for people."""
