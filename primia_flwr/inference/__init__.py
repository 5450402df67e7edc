"""Encrypted inference: an image is classified that the model owner never sees."""
