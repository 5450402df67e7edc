"""`primia new model NAME`: a model of one's own, ready to train."""

from primia_flwr.cli.new.write import command

COMMAND = command("model", "a model")
