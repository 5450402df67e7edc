"""`primia new layout NAME`: a data layout of one's own, ready to train."""

from primia_flwr.cli.new.write import command

COMMAND = command("layout", "a data layout")
