"""`primia train`: one run, many runs, a search, or only the plan of one.

`live` shows a run as it goes on, `dry_run` what it would do, `multirun` and `search` are
`-m`. Imports the pipeline, `search` and `runs`; the trials' commands import it.
"""
