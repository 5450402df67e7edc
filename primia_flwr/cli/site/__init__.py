"""`primia site`: the hospital's commands, from its first check to its log.

Each is a thin hand on `primia_flwr.site`, which holds the machinery. Imports `site`,
`provisioning` and `storage`.
"""
