"""`primia new task NAME`: a task of one's own, ready to train."""

from primia_flwr.cli.new.write import command

COMMAND = command("task", "a task")
