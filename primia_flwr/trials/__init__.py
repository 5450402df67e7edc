"""Whole federations and services on one machine."""
