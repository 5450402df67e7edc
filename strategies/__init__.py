"""The coordinator's half of the Flower app: which sites to ask, and how to aggregate.

One file is one rule and says what it needs of a round: here, or in a family's folder (`robust`,
`fedopt`). `registry` puts the parts together and `server_app` is what Flower loads. May import
every room of `primia_flwr` but the command line, the attacks and the trials; never `clients`.
"""
