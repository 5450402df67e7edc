"""The folder of a run: history, checkpoints, sums, tracking, and reading it back.

What is written here is what reports, comparisons and attacks read. `tracking` is the only door to
wandb. Imports `messages`, tasks, `secagg` and `storage`; the coordinator's app, the pipeline and
reporting import it.
"""
