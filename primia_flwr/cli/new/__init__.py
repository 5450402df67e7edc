"""`primia new`: the files of a new strategy, model, task or layout, ready to be filled in.

Writes a row, its YAML and a test from templates. Imports the configuration and `storage`.
"""
