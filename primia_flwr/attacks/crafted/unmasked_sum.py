"""The sum that a coordinator opens over any model that it sends, by the sites' own training.

Each site trains with the product's own code, as it does in the run, and each update is encoded,
added modulo 2^32 and decoded as secure aggregation does it; masks cancel, so they are left out.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from primia_flwr.attacks.crafted.model import head_of
from primia_flwr.attacks.site_recipe import recipe_at
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.secagg.payload.fixed_point import FixedPoint, Overflow
from primia_flwr.training.fit import fit
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import plan_round, steps_a_round

_Arrays = dict[str, Tensor]


@dataclass(frozen=True)
class Federation:
    """The sites of a simulation with their training images, and how they train."""

    experiment: Experiment
    sites: Mapping[str, LabelledImages]
    normalisation: Normalisation
    device: torch.device

    def opened_sum(self, model: nn.Module, server_round: int) -> _Arrays:
        """Return the mean update that the coordinator opens if it sends `model` in a round.

        Raises
        ------
        DivergenceError
            If a site's training diverges or its update is beyond `clip`.
        """
        secure = self.experiment.aggregation
        before = float_arrays(model)
        fixed_point = FixedPoint(secure.clip, len(self.sites))
        overflow: Overflow = "clip" if secure.overflow == "clip" else "decline"
        entries = sum(array.numel() for array in before.values())
        total, encoded = np.zeros(entries, np.uint32), np.empty(entries, np.uint32)
        shares = {site: self._weight(site) for site in self.sites}
        for site, share in shares.items():
            after = self._trained(copy.deepcopy(model), site, server_round)
            update = torch.cat([(after[name] - before[name]).flatten() for name in before])
            fixed_point.encode(update.numpy(), share, encoded, overflow=overflow)
            total += encoded
        mean = np.empty(entries, np.float32)
        fixed_point.decode(total, sum(shares.values()), mean)
        sizes = [array.numel() for array in before.values()]
        parts = torch.split(torch.from_numpy(mean), sizes)
        return {n: part.view_as(before[n]) for n, part in zip(before, parts, strict=True)}

    def _trained(self, model: nn.Module, site: str, server_round: int) -> _Arrays:
        experiment, images = self.experiment, self.sites[site]
        recipe = recipe_at(site, experiment, self.normalisation, self.device)
        plan = plan_round(
            experiment.training,
            num_examples=len(images),
            round_number=server_round,
            num_rounds=experiment.federation.rounds,
        )
        result = fit(model, images, None, recipe, plan)
        return {n: t.cpu() for n, t in result.state.items() if t.is_floating_point()}

    def _weight(self, site: str) -> float:
        """Return a site's weight over the largest that is allowed, in (0, 1]."""
        weighting, images = self.experiment.strategy.weighting, len(self.sites[site])
        weights = {"images": images, "batches": steps_a_round(self.experiment.training, images)}
        return min(1.0, weights.get(weighting, 1) / self.experiment.largest_weight)


def float_arrays(model: nn.Module) -> _Arrays:
    """Return copies of what travels of a model, on the CPU."""
    state = model.state_dict()
    return {n: t.detach().cpu().clone() for n, t in state.items() if t.is_floating_point()}


def below_the_head(model: nn.Module) -> list[str]:
    """Return the trainable parameters that come before the classifier."""
    head = f"{head_of(model)[0]}."
    return [n for n, p in model.named_parameters() if p.requires_grad and not n.startswith(head)]


def cosines(
    model: nn.Module, images: Tensor, labels: Tensor, change: Mapping[str, Tensor], *, smooth: float
) -> list[float]:
    """Return the cosine of an opened sum with each image's own step, below the classifier.

    Parameters
    ----------
    model : nn.Module
        As it was sent.
    images, labels : Tensor
        (N, C, H, W) normalised, (N,).
    change : mapping of str to Tensor
        The opened mean update.
    smooth : float
        Label smoothing of the sites' loss.

    Returns
    -------
    list of float
        In [-1, 1], one for each image; 0 where it has no gradient.
    """
    named = dict(model.named_parameters())
    names = below_the_head(model)
    step = torch.cat([-change[name].flatten() for name in names]).to(images.device).double()
    found = []
    for image, label in zip(images, labels, strict=True):
        loss = functional.cross_entropy(model(image[None]), label[None], label_smoothing=smooth)
        gradients = torch.autograd.grad(loss, [named[name] for name in names])
        own = torch.cat([gradient.flatten() for gradient in gradients]).double()
        found.append(float(functional.cosine_similarity(step, own, dim=0)))
    return found


def images_a_round(federation: Federation) -> int:
    """Return how many images (repeats counted) the sites train on in a round, about."""
    training = federation.experiment.training
    sizes: Sequence[int] = [len(images) for images in federation.sites.values()]
    return sum(min(n, training.batch_size) * steps_a_round(training, n) for n in sizes)
