"""What a shell asks: how a line goes on.

`completion` prints the script of a shell and answers it. Only the command line's entry imports it.
"""
