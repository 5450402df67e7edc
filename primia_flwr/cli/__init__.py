"""The command line, `primia <command> [key=value ...]`: one command a file, by rooms.

`main` has the closed table of commands, `command` what all have in common; the YAML of
`cli/<room>/<name>.py` is `conf/commands/<room>/<name>.yaml`. May import every room of
`primia_flwr`; nobody imports it. Heavy imports stand inside the functions.
"""
