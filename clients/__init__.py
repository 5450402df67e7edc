"""The site's half of the Flower app: answers the coordinator's messages on the site's own data.

`client_app` is what Flower loads; `leaving` is the table of what may leave, `mods` see to it,
`handlers` compute an answer, `site` is the opened site. May import every room of `primia_flwr` but
the command line, the attacks and the trials; never `strategies`. Flower alone imports it.
"""
