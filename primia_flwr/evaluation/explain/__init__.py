"""Saliency maps of single cases."""
