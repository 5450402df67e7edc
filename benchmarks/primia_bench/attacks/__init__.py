"""Attacks, measured."""
