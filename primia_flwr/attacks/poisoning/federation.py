"""A federation in this process, some of whose sites lie: the rounds of one lie under one rule."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from primia_flwr.attacks.poisoning.answers import Answer, Arrays, Sent
from primia_flwr.attacks.poisoning.liars import Lie
from primia_flwr.attacks.site_recipe import recipe_at
from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.debug import DebugConfig
from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.search import SearchConfig
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.data.dataset import LabelledImages, deal_sites, load_test
from primia_flwr.errors import ConfigError, DivergenceError
from primia_flwr.pipeline.first_model import first_model
from primia_flwr.training.device import pick_device
from primia_flwr.training.evaluate import evaluate, predict
from primia_flwr.training.fit import fit
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import plan_round


@dataclass(frozen=True)
class Outcome:
    """What became of the model: figures on the test images, and how often the trigger worked.

    `success`: the share of the test images of other classes which the triggered model takes for the
    target; of the same images without a trigger in `without`. None where the model is not finite.
    """

    figures: dict[str, float] | None
    success: float | None
    without: float | None


@dataclass(frozen=True)
class Poisoned:
    """A federation that is to be lied to: the first `liars` sites lie."""

    experiment: Experiment
    normalisation: Normalisation
    sites: Sequence[LabelledImages]
    test: LabelledImages
    liars: int
    device: torch.device

    @classmethod
    def of(
        cls, run: Experiment, normalisation: Normalisation, *, sites: int, liars: int, device: str
    ) -> "Poisoned":
        """Deal a run's images to so many sites.

        Raises
        ------
        ConfigError
            If the labels are no classes, not fewer than half of the sites lie, or the run's images
            are dealt to its own sites only.
        """
        if run.data.task != "classification":
            raise ConfigError(
                f"the run has data.task={run.data.task}; expected classification: labels are "
                "flipped from class to class"
            )
        if not 1 <= liars < sites / 2:
            raise ConfigError(
                f"liars={liars} of sites={sites}; expected 1 or more, and fewer than half"
            )
        names = _names(run, sites)
        experiment = replace(
            run,
            federation=replace(run.federation, sites=names, min_sites=sites),
            strategy=StrategyConfig(),
            aggregation=AggregationConfig(),
            privacy=PrivacyConfig(),
            search=SearchConfig(),
            debug=DebugConfig(),
        )
        dealt = deal_sites(
            experiment.data, seed=run.seed, num_sites=sites, site_names=experiment.federation.sites
        )
        trained = [dealt.open(index).train for index in range(sites)]
        test = load_test(experiment.data, seed=run.seed)
        chosen = pick_device(device, key="device")
        return cls(experiment, normalisation, trained, test, liars, chosen)

    def run(self, lie: Lie, answer: Answer, rounds: int) -> Outcome:
        """Run the rounds, and judge the last model."""
        model = first_model(self.experiment, len(self.test.classes))
        for number in range(1, rounds + 1):
            before = _arrays_of(model)
            try:
                sent = [self._sent(model, before, site, number, lie) for site in self._numbers]
            except DivergenceError:
                return Outcome(None, None, None)
            after = answer(before, sent)
            if not all(np.isfinite(array).all() for array in after.values()):
                return Outcome(None, None, None)
            _load(model, after)
        return self._judged(model, lie)

    @property
    def _numbers(self) -> range:
        return range(len(self.sites))

    def largest_change(self) -> float:
        """Return the largest magnitude of a number of an honest update in the first round."""
        model = first_model(self.experiment, len(self.test.classes))
        before, honest = _arrays_of(model), Lie("none", 1.0, 0, 1)
        largest = 0.0
        for site in self._numbers[self.liars :]:
            after = self._sent(model, before, site, 1, honest).arrays
            largest = max(
                largest, *(float(np.abs(after[name] - before[name]).max()) for name in before)
            )
        return largest

    def _sent(self, model: nn.Module, before: Arrays, site: int, number: int, lie: Lie) -> Sent:
        images, lies = self.sites[site], site < self.liars
        _load(model, before)
        experiment, name = self.experiment, self.experiment.federation.sites[site]
        recipe = recipe_at(name, experiment, self.normalisation, self.device)
        plan = plan_round(
            experiment.training,
            num_examples=len(images),
            round_number=number,
            num_rounds=experiment.federation.rounds,
        )
        fit(model, lie.trained_on(images) if lies else images, None, recipe, plan)
        after, named = _arrays_of(model), dict(model.named_parameters())
        if lies:
            factor = np.float32(lie.factor)
            for name in named.keys() & after.keys():
                after[name] = before[name] + factor * (after[name] - before[name])
        return Sent(after, len(images))

    def _judged(self, model: nn.Module, lie: Lie) -> Outcome:
        def judge(images: LabelledImages) -> Any:
            return predict(
                model, images, normalisation=self.normalisation, batch_size=128, device=self.device
            ).argmax(axis=1)

        verdict = evaluate(
            model, self.test, normalisation=self.normalisation, batch_size=128, device=self.device
        )
        others = self.test.select((self.test.labels != lie.target).nonzero().ravel())
        marked = replace(others, images=lie.triggered(others.images))
        return Outcome(
            verdict.figures(),
            float((judge(marked) == lie.target).mean()),
            float((judge(others) == lie.target).mean()),
        )


def _names(run: Experiment, sites: int) -> list[str]:
    """Return the names of so many sites: the run's own, where it has as many."""
    own, partition = list(run.federation.sites), run.data.partition
    if len(own) == sites:
        return own
    if partition.kind == "manifest" or partition.shares:
        how = "its manifest" if partition.kind == "manifest" else "data.partition.shares"
        raise ConfigError(
            f"sites={sites} of a run whose images {how} deals to {len(own)} sites; expected "
            f"sites={len(own)}"
        )
    return [f"site-{number}" for number in range(1, sites + 1)]


def _arrays_of(model: nn.Module) -> Arrays:
    """Return a copy of a model's floating-point arrays, float32."""
    return {
        name: np.array(tensor.detach().cpu().numpy(), order="C")
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()
    }


def _load(model: nn.Module, arrays: Arrays) -> None:
    """Put arrays into a model."""
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    model.load_state_dict({**model.state_dict(), **state})
