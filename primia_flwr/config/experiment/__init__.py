"""The sections of an experiment, and the tree of them."""
