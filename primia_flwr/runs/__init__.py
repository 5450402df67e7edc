"""The folder of a run: history, checkpoints, sums, tracking, and reading it back."""
