"""The online phase between model owner and data owner."""
