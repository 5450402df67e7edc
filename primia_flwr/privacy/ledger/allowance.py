"""Whose own limit lets a run through, by what each has spent; decided once a run.

A limit is counted as the site's ceiling is. Who is in a run stays in it: a run that began with
somebody goes on with that one or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from primia_flwr.errors import PrivacyBudgetError
from primia_flwr.privacy.accounting.events import AnyEvent
from primia_flwr.privacy.ledger.ledger import Ledger

Limits = Mapping[str, float]
"""The largest epsilon of somebody, by a name that the ledger knows."""


def taking_part(ledger: Ledger, limits: Limits, *, run: str, epsilon: float) -> frozenset[str]:
    """Return the names whose limit lets a run of that epsilon through.

    Parameters
    ----------
    limits : mapping
        By the names that the data is registered with.
    epsilon : float
        What the whole run may cost; 0 where nobody knows, then nobody with a limit takes part.

    Raises
    ------
    DataError
        If the ledger's versions cannot be read.
    """
    where = ledger.persons(limits)
    began = ledger.account.version_of(run)
    if began is not None:
        return frozenset(name for name in limits if began in dict(where[name]))
    if not epsilon:
        return frozenset()
    counted = ledger.account.constants.filter
    delta = counted.delta_of_run(epsilon, ledger.ceiling)
    cost = counted.spent(np.zeros(len(counted.orders)), epsilon=epsilon, delta=delta)
    return frozenset(
        name
        for name, limit in limits.items()
        if counted.epsilon_of_runs(ledger.account.spent_by(where[name]) + cost) <= limit
    )


def check_limits(
    ledger: Ledger, limits: Limits, version: str, *, run: str, events: Sequence[AnyEvent]
) -> None:
    """Refuse events that would take somebody of a version beyond his or her own limit.

    Raises
    ------
    PrivacyBudgetError
        Without the name.
    """
    for name, person in ledger.persons(limits).items():
        after = ledger.account.epsilon(version, {person: 1}, events, run=run)
        if not after <= limits[name]:
            raise PrivacyBudgetError(
                f"epsilon of a patient with an own limit would be {after:.4g}; expected at most "
                f"{limits[name]:g}, as this site's patient_limits say; ask for more noise or fewer "
                "steps, or start a new run, which goes without that patient"
            )
