"""Scripts that measure; each prints one JSON object with the machine described."""
