"""The hospital's machinery: its policy, the gate that enforces it, its log and its checks.

`gate` judges each message before the bundle's code runs, `authorisation` and `terms` are the
rules, `bundle` the code that arrives. Imports the configuration, `processes` and `storage`; the
site's app and `cli/site` import it.
"""
