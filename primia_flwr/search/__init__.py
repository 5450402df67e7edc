"""The search for hyper-parameters over whole runs: `primia train -m sweep=<choice>`.

`search` is one search from question to report, `loop` asks and tells the `study`, `trial` follows a
run. The only door to optuna. Imports the pipeline and reporting; `cli/train` imports it.
"""
