"""From a trained network to steps in fixed point."""
