"""A crafted model that isolates one image in a sum."""
