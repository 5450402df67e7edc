"""Configuration: dataclasses that check themselves, and the one function that loads them."""
