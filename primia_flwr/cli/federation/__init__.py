"""`primia provision`, `primia federation` and `primia secagg`: the coordinator's commands.

Makes the kits of the sites, trusts their identities, says who is there, and what the coordinator
saw. Imports `provisioning`, `trials` and `reporting`.
"""
