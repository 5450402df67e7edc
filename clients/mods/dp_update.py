"""A site's answer in a run with differential privacy: an update that was charged for, no more.

Charged, then sent: the ledger's entry is on the disk before anything that depends on a patient may
leave. Nothing else leaves: no count, no loss, no validation.
"""

import logging
from abc import ABC, abstractmethod

from flwr.app import ConfigRecord, Context, Message, MetricRecord
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from clients.handlers.first_weights import check_first_weights
from clients.handlers.local_round import add_unsent, recipe_of, train_round
from clients.handlers.message import arrived_model, round_config
from clients.reply import reply_to
from clients.site.adaptive_clip import adaptive_clip_norm, keep_adaptive_clip_norm
from clients.site.identity import SecureSite, open_member
from clients.site.ledger_request import Account
from clients.site.opened import OpenSite, open_site
from clients.site.progress import progress_writer
from clients.site.state import RoundState
from primia_flwr.errors import DivergenceError
from primia_flwr.messages import keys, records
from primia_flwr.messages import secure as wire
from primia_flwr.models.frozen_arrays import frozen_arrays, without
from primia_flwr.privacy.accounting.events import AnyEvent
from primia_flwr.privacy.accounting.run_plan import Wish
from primia_flwr.privacy.ledger.ledger import Ledger, Receipt
from primia_flwr.privacy.mechanisms.shared_step import StepNoise
from primia_flwr.training.private import PrivateRound, fit_private, shared_step
from primia_flwr.training.private_plan import PrivatePlan, plan_private, wish_of

logger = logging.getLogger(__name__)

_State = dict[str, Tensor]


def answer_privately(message: Message, context: Context) -> Message:
    """Answer `train` with an update, a weight of 1, and the ledger heads known here.

    Raises
    ------
    PrivacyBudgetError
        If a unit's epsilon would pass the site's ceiling; nothing was trained.
    PrimiaError
        If the ledger cannot be used; nothing leaves.
    """
    site = open_site(context)
    return _ANSWERS[site.experiment.privacy.mode](site, open_member(context), message).reply()


class _PrivateAnswer(ABC):
    """One request for an update, from the first look into the ledger to the reply."""

    def __init__(self, site: OpenSite, member: SecureSite, message: Message) -> None:
        self.site, self.message = site, message
        self.privacy = site.experiment.privacy
        self.config, self.number = round_config(message)
        base = wire.model_digest(message.content.array_records[keys.ARRAYS])
        self.account = Account(site, member, instance=self.number, request=base)
        self.frozen = frozen_arrays(
            site.experiment.model,
            outputs=len(site.data.train.classes),
            channels=site.experiment.data.channels,
        )

    def reply(self) -> Message:
        """Return the update; it has been paid for."""
        with self.account.ledger() as ledger:
            self.account.check_witnesses(ledger, self.config.get(keys.HEADS, "[]"))
            state = self.kept(ledger)
            if state is None:
                if not self.account.has_begun(ledger):
                    check_first_weights(self.site, self.message, self.number)
                self.plan(ledger)
                self.account.afford(ledger, whole=self.whole_run, this=self.event)
        if state is None:
            state = self.train()
            with self.account.ledger() as ledger:
                what = f"{self.privacy.mode}: update of round {self.number}"
                self.keep(ledger, self.account.charge(ledger, self.event, what), state)
        with self.account.ledger() as ledger:
            self.account.sign_head(ledger)
        return self._pack(state)

    @abstractmethod
    def plan(self, ledger: Ledger) -> None:
        """Decide how much noise there will be."""

    @property
    @abstractmethod
    def event(self) -> AnyEvent:
        """What this round costs."""

    @property
    @abstractmethod
    def whole_run(self) -> AnyEvent:
        """What all rounds cost."""

    @abstractmethod
    def train(self) -> _State:
        """Return the trained model."""

    def kept(self, ledger: Ledger) -> _State | None:
        """Return what was sent for the very same request before, where that may be sent again."""
        return None

    def keep(self, ledger: Ledger, receipt: Receipt, state: _State) -> None:  # noqa: B027
        """Keep what was paid for, where it may be sent again."""

    def _pack(self, state: _State) -> Message:
        parts = {
            keys.METRICS: MetricRecord({keys.WEIGHT: 1.0}),
            keys.ARRAYS: records.to_arrays(without(state, self.frozen)),
            keys.LEDGER: ConfigRecord({keys.HEADS: self.account.heads.to_text()}),
        }
        outputs = len(self.account.images.classes)
        return reply_to(self.message, self.site.name, parts, outputs=outputs)


class _NoisySteps(_PrivateAnswer):
    """DP-SGD: the noise is in every step, so the model itself may leave.

    Asked for the same round of the same model again, the site sends the numbers that it kept,
    which costs nothing.
    """

    _plan: PrivatePlan
    _round: PrivateRound

    def plan(self, ledger: Ledger) -> None:
        """Take the noise of the run's plan; at the first request the site solves for it."""
        rounds = self.site.experiment.federation.rounds
        wish = wish_of(self.privacy, units=self.account.units, num_rounds=rounds)
        run = self.account.plan(ledger, wish)
        self._plan = plan_private(self.privacy, run, round_number=self.number, num_rounds=rounds)
        self.account.cover(ledger, self._plan.event)

    @property
    def event(self) -> AnyEvent:
        """The round's steps."""
        return self._plan.event

    @property
    def whole_run(self) -> AnyEvent:
        """The steps of all rounds."""
        return self._plan.whole_run

    def kept(self, ledger: Ledger) -> _State | None:
        """Return the model of an earlier answer."""
        raw = self.account.stored(ledger)
        return load_tensors(raw) if raw else None

    def train(self) -> _State:
        """Take the noisy steps."""
        model, normalisation = arrived_model(self.site, self.message)
        add_unsent(self.site, model)
        training = self.site.experiment.training
        before = self.site.state_before(self.number)
        self._round = fit_private(
            model,
            self.account.images,
            recipe_of(self.site, normalisation),
            self.privacy,
            self._plan,
            optimizer_state=before.optimizer if training.optimizer_state == "keep" else None,
            clip_norm=adaptive_clip_norm(self.site, self.number - 1),
            on_progress=progress_writer(self.site, self.number),
        )
        return self._round.state

    def keep(self, ledger: Ledger, receipt: Receipt, state: _State) -> None:
        """Keep the model for a repetition, and what the next round begins with: paid for by now."""
        keep_adaptive_clip_norm(self.site, self._round.clip_norm, self.number)
        ledger.store(receipt, save_tensors(state))
        self.site.state.save(self.number, RoundState(self._round.optimizer_state))


class _NoisySum(_PrivateAnswer):
    """Noise in the aggregate: the update is clipped and gets its part of the noise when encoded.

    Never sent twice: the same noise in two sums over different sites would show their difference.
    """

    def plan(self, ledger: Ledger) -> None:
        """Take the noise that all sites of the run take."""
        arrays = wire.numpy_arrays(self.message.content.array_records[keys.ARRAYS])
        entries = sum(array.size for array in without(arrays, self.frozen).values())
        experiment = self.site.experiment
        self._noise = wire.aggregate_noise(experiment, experiment.num_sent(entries))
        sums = self.site.experiment.federation.rounds + self.privacy.repeats
        self.account.plan(ledger, Wish((self._noise.times(sums),)))
        self.account.cover(ledger, self.event)

    @property
    def event(self) -> AnyEvent:
        """One sum."""
        return self._noise.times(1)

    @property
    def whole_run(self) -> AnyEvent:
        """The sums of all rounds."""
        return self._noise.times(self.site.experiment.federation.rounds)

    def train(self) -> _State:
        """Train as in any run, on all images."""
        model, normalisation = arrived_model(self.site, self.message)
        before = self.site.state.load(self.number - 1)
        recipe = recipe_of(self.site, normalisation)
        unchanged = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        try:
            result = train_round(
                self.site, model, recipe, self.number, before, train=self.account.images, val=None
            )
        except DivergenceError as error:  # an error would tell it; no change and noise do not
            logger.warning("round %d adds noise alone: %s", self.number, error)
            return unchanged
        self.site.state.save(self.number, RoundState(result.optimizer_state or {}))
        return result.state


class _SharedStep(_NoisySum):
    """One step of DP-SGD over all sites: clipped by unit, the noise shared in the sum."""

    def train(self) -> _State:
        """Return what this site's units add to the model: an update, not a model."""
        assert isinstance(self._noise, StepNoise)
        model, normalisation = arrived_model(self.site, self.message)
        step, rounds = self.number - 1, self.site.experiment.federation.rounds
        plan = PrivatePlan(self._noise.noise_multiplier, self._noise.sampling_rate, 1, step, rounds)
        recipe = recipe_of(self.site, normalisation)
        images = self.account.images
        return shared_step(model, images, recipe, self.privacy, plan, weight=self._noise.weight)


_ANSWERS: dict[str, type[_PrivateAnswer]] = {
    "dp_sgd": _NoisySteps,
    "dp_aggregate": _NoisySum,
    "dp_sgd_shared": _SharedStep,
}
