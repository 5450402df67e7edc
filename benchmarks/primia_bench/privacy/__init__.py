"""Cost, utility and audits of differential privacy."""
