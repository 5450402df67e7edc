"""Splits and partitions by patient."""
