"""One experiment from its data to its report, on whatever Flower runs it.

`experiment` prepares and ends a run, `first_model` what it begins with, `scoring` and `baselines`
what it is measured by. Imports every room below the attacks; the command line, the search,
the trials and both apps import it.
"""
