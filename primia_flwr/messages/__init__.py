"""Models, measurements and secure sums as Flower records."""
