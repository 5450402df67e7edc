"""Gradient inversion: images from updates."""
