"""Training, case studies and statistics, measured."""
