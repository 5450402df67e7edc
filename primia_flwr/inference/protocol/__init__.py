"""The online phase: model owner and data owner compute the scores of a batch on shares.

`online` are the steps, `session` what both agree on, `plausibility` whether scores can be right,
`memory` what it takes. Imports every room of `inference` below; only the service and its
commands import it.
"""
