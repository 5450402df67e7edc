"""Privacy-preserving medical image analysis on Flower."""

__version__ = "0.1.0"
