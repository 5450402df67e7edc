"""The coordinator's half of the Flower app: which sites to ask, and how to aggregate."""
