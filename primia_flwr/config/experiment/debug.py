"""Measurements that a run makes of itself; an ordinary run makes none."""

from dataclasses import dataclass


@dataclass
class DebugConfig:
    """What is written down beyond the record of a run.

    `verify_sums`: in a simulation, compare each securely learned mean with the float64 one of the
    sites' own updates, which they then write down. `record_received`: in a simulation, keep the
    bytes that the coordinator received in each round, for `primia attack`. `cross_site`: after the
    last round each site's own model is validated at every site, so each site then holds the
    others' models; with aggregation=plain only.
    """

    verify_sums: bool = False
    record_received: bool = False
    cross_site: bool = False
