"""The Flower App Bundle as a site receives, checks and keeps it."""
