"""`primia data check` and `primia data partition`: before anything is trained.

The only commands in which a key may choose a file of `conf/` (`data=folder`).
Imports `data` and the configuration.
"""
