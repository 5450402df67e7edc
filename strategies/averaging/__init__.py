"""The means and server steps that rules are built of, as Flower strategies; none is a choice.

Imports messages; the rules import it when they are built, because Flower is slow to import and
hospitals read the rows with the configuration, and `aggregators` for the mean.
"""
