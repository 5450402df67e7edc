"""Noise, sampling and the noisy releases that are made of them."""
