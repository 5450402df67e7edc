"""Small cryptographic parts that more than one protocol uses."""
