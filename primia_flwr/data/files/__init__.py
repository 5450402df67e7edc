"""Image files: found, decoded and kept decoded."""
