"""Attacks on the private mechanisms, and the claims that they are held to.

`step`, `aggregate` and `paths` repeat a mechanism on two neighbours; `one_run` draws canaries
once. Imports `privacy`, `training` and `secagg` of the product, private functions too.
"""
