"""Python's doors to the commands: train, evaluate, predict and compare, with objects as results.

`import primia_flwr as pf` offers them (docs/python-api.md). Nobody else imports from here.
"""
