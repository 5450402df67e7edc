"""What a search may change: its dimensions, its space, and an experiment with values put in.

`sweep` is of searches over whole runs, `searched` of federated search. Imports the experiment's
sections; `search`, the site's policy and both apps import it.
"""
