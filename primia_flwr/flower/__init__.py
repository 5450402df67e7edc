"""Flower's own programs: SuperLink, SuperNodes, simulation, bundle, launch."""
