"""Membership inference on a trained model."""
