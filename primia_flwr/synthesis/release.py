"""The ledger around a generator: planned before training, charged before anything is released.

What the ledger keeps of a request it gives again for the same request, at no cost: a folder that
was lost, or more images, need no second training.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import DataError, DivergenceError
from primia_flwr.privacy.accounting.events import SampledGaussian
from primia_flwr.privacy.accounting.filter import SiteFilter, check_delta
from primia_flwr.privacy.accounting.run_plan import RunPlan, Wish
from primia_flwr.privacy.ledger.allowance import Limits, check_limits, taking_part
from primia_flwr.privacy.ledger.ledger import Ledger
from primia_flwr.privacy.ledger.view import read_ledger
from primia_flwr.privacy.mechanisms.units import units_of
from primia_flwr.synthesis.config import SynthesisPrivacy
from primia_flwr.training.private import known_by

State = dict[str, Tensor]
_INSTANCE = 1


@dataclass(frozen=True)
class Account:
    """Where a site counts, and by which rules: its own, never a coordinator's.

    `ceiling`: on everything that the ledger has ever charged; None: no ceiling. `limits`: what
    single patients allow.
    """

    folder: Path
    site: str
    unit: str
    delta: float
    ceiling: float | None
    limits: Limits = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether there is a ledger."""
        return self.folder.is_dir() and any(self.folder.iterdir())

    def ledger(self, *, units: int | None = None) -> Ledger:
        """Open the ledger for charging; a context manager. `units`: how many there are."""
        return Ledger.open(
            self.folder,
            site=self.site,
            unit=self.unit,
            delta=self.delta,
            ceiling=self.ceiling,
            units=units,
        )

    def outside(self, *, run: str, epsilon: float) -> frozenset[str]:
        """Return the patients who allow less than this would cost them; begins no ledger."""
        if not self.limits or not self.begun:
            return frozenset(name for name, limit in self.limits.items() if limit < epsilon)
        with self.ledger() as ledger:
            inside = taking_part(ledger, self.limits, run=run, epsilon=epsilon)
        return frozenset(self.limits.keys() - inside)


@dataclass(frozen=True)
class Request:
    """What is asked for, as bytes that name it, and the run that it is in the ledger."""

    content: bytes

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Request":
        """Return that of all settings that change the generator, as plain values."""
        return cls(json.dumps(settings, sort_keys=True, ensure_ascii=True).encode())

    @property
    def run(self) -> str:
        """The name of the run."""
        return f"synthesis-{hashlib.sha256(self.content).hexdigest()[:16]}"


@dataclass(frozen=True)
class Paid:
    """A generator that was paid for; `entry`, `head`: of its charge; `again`: free this time."""

    state: State
    event: SampledGaussian
    units: int
    entry: int
    head: str
    again: bool


@dataclass(frozen=True)
class Outlook:
    """The steps with their noise, what the most used unit has spent; `paid`: for this already."""

    event: SampledGaussian
    spent: float
    paid: bool


def outlook(
    account: Account, request: Request, privacy: SynthesisPrivacy, *, units: int
) -> Outlook:
    """Return what a request would cost; write nothing.

    Raises
    ------
    PrimiaError
        If no noise is large enough, or delta is too large for so many units.
    """
    check_delta(account.delta, units)
    counted, spent = SiteFilter.planned(epsilon=account.ceiling or 8.0, delta=account.delta), 0.0
    paid = False
    if account.begun:
        with read_ledger(account.folder) as ledger:
            counted = ledger.account.constants.filter
            spent = counted.epsilon(ledger.most_used())
            paid = any(charge.run == request.run for charge in ledger.charges())
    plan = _wish(privacy, units).solve(counted, ceiling=account.ceiling)
    return Outlook(_steps(plan), spent, paid)


def pay_for(
    account: Account,
    images: LabelledImages,
    request: Request,
    privacy: SynthesisPrivacy,
    train: Callable[[SampledGaussian], State],
) -> Paid:
    """Train a generator and charge for it; or return the one that was paid for before.

    Raises
    ------
    PrivacyBudgetError
        If somebody's epsilon would pass a ceiling or an own limit; nothing was trained.
    DataError
        If the ledger cannot be used, or the data changed since the run began.
    DivergenceError
        If the generator is not finite. It was paid for all the same: an error tells, too.
    """
    names, digests = known_by(account.unit, images)
    if len(images.digests) != len(images):
        raise DataError(
            f"{len(images.digests)} digests of files for {len(images)} images; expected one each; "
            "nothing is released"
        )
    units, run = len(units_of(account.unit, images.patients, images.digests)), request.run
    with account.ledger(units=units) as ledger:
        version = ledger.register(names, digests)
        plan = ledger.plan(version, run=run, wish=_wish(privacy, units))
        event = _steps(plan)
        kept = _kept(ledger, request, event, units)
        if kept is not None:
            return kept
        ledger.afford(version, run=run, events=[event])
        check_limits(ledger, account.limits, version, run=run, events=[event])
    state = train(event)
    with account.ledger() as ledger:
        version = ledger.register(names, digests)
        check_limits(ledger, account.limits, version, run=run, events=[event])
        receipt = ledger.charge(
            version,
            run=run,
            instance=_INSTANCE,
            request=request.content,
            event=event,
            what="a generator of synthetic images",
        )
        ledger.store(receipt, save_tensors(state))
    _check_finite(state)
    return Paid(state, event, units, receipt.seq, receipt.head, again=False)


def _kept(ledger: Ledger, request: Request, event: SampledGaussian, units: int) -> Paid | None:
    """Return the generator that was paid for by the very same request, if the ledger has it."""
    content = ledger.stored(run=request.run, instance=_INSTANCE, request=request.content)
    if content is None:
        return None
    state = load_tensors(content)
    _check_finite(state)
    (charge, *_) = [c for c in reversed(ledger.charges()) if c.run == request.run]
    return Paid(state, event, units, charge.seq, charge.hash, again=True)


def _check_finite(state: State) -> None:
    if not all(np.isfinite(value.numpy()).all() for value in state.values()):
        raise DivergenceError(
            "the generator has weights that are not finite; expected finite ones; the ledger was "
            "charged; lower generator.learning_rate and generator.discriminator_learning_rate"
        )


def _wish(privacy: SynthesisPrivacy, units: int) -> Wish:
    step = SampledGaussian(
        noise_multiplier=1.0,
        sampling_rate=min(1.0, privacy.expected_batch / units),
        steps=privacy.steps,
    )
    return Wish((step,), privacy.epsilon)


def _steps(plan: RunPlan) -> SampledGaussian:
    (event,) = plan.events
    assert isinstance(event, SampledGaussian)
    return event
