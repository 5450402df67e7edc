"""What a simulated site really trained on: for scoring an attack, never for the attack itself."""

from dataclasses import dataclass

import torch
from torch import Tensor

from primia_flwr.attacks.inversion.targets import Seen
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.dataset import LabelledImages, deal_sites
from primia_flwr.training.device import derive_seed
from primia_flwr.training.plan import batches_an_epoch, epoch_batches, plan_round


@dataclass(frozen=True)
class GroundTruth:
    """The images in an update, without repeats, and their patients.

    `images`: (N, C, S, S) float32 in [0, 1], before augmentation. `labels`: (N,) int64.
    """

    images: Tensor
    labels: Tensor
    patients: tuple[str, ...]


class SitesData:
    """The training images of a simulation's sites.

    Raises
    ------
    DataError
        If the data are not there any more.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        names = experiment.federation.sites
        dealt = deal_sites(
            experiment.data, seed=experiment.seed, num_sites=len(names), site_names=names
        )
        self._sites = {name: dealt.open(index).train for index, name in enumerate(names)}

    def size_of(self, site: str) -> int:
        """Return a site's number of training images."""
        return len(self._sites[site])

    def images_of(self, site: str) -> LabelledImages:
        """Return a site's training images."""
        return self._sites[site]

    def gallery(self) -> LabelledImages:
        """Return all sites' training images: whose patients an attacker might tell apart."""
        first, *others = self._sites.values()
        for other in others:
            first = first.joined(other)
        return first

    @property
    def synthetic(self) -> bool:
        """Whether the images were drawn by formula."""
        return next(iter(self._sites.values())).synthetic

    def truth_of(self, seen: Seen, *, from_round: int | None = None) -> GroundTruth:
        """Return what was trained on in an update, or from a round on until the update's.

        The batches follow from the run's seed, as they did at the sites. Under differential
        privacy the sites drew their batches at random: there all their images are returned.
        """
        images, labels, patients = [], [], list[str]()
        for site in seen.sites:
            data = self._sites[site]
            rows = self._rows(site, from_round or seen.server_round, seen.server_round)
            images.append(data.images[rows].float() / 255)
            labels.append(data.labels[rows])
            patients += [data.patients[row] for row in rows.tolist()]
        return GroundTruth(torch.cat(images), torch.cat(labels), tuple(patients))

    def _rows(self, site: str, first: int, last: int) -> Tensor:
        experiment, size = self._experiment, self.size_of(site)
        if experiment.privacy.mode in ("dp_sgd", "dp_sgd_shared"):
            return torch.arange(size)
        seed = derive_seed(experiment.seed, "site", site)
        cfg, an_epoch = experiment.training, batches_an_epoch(size, experiment.training.batch_size)
        rows = set[int]()
        for number in range(first, last + 1):
            plan = plan_round(
                cfg, num_examples=size, round_number=number, num_rounds=experiment.federation.rounds
            )
            for step in range(plan.start_step, plan.start_step + plan.num_batches(an_epoch)):
                batches = epoch_batches(size, cfg.batch_size, seed=seed, epoch=step // an_epoch)
                rows.update(batches[step % an_epoch].tolist())
        return torch.tensor(sorted(rows), dtype=torch.int64)
