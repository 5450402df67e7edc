"""How the coordinator learns the result of a round: from updates in the clear, or from sums.

`aggregator` is the seam, `plain` and `secure` keep to it; every reply is validated before it
counts. Imports messages, runs and secagg of the library; the rounds and the registry import it.
"""
