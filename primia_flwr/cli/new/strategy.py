"""`primia new strategy NAME`: a rule of one's own, ready to train."""

from primia_flwr.cli.new.write import command

COMMAND = command("strategy", "a rule")
