"""The membership attack on one run, prepared, and then carried out.

Two attackers, both of whom have the final model and its card:

- an **outsider with the images in question**: holds all of them, members and test patients mixed,
  and does not know which are which; trains shadow models on random parts of them. Whoever asks
  about a patient needs the patient's image, so this is the least that the question supposes, and
  for all images at once it is the strongest attacker that is looked at;
- a **hospital of the run** (`own_site`): holds its own training and validation images, trains
  shadow models on random halves of them, and asks about the other hospitals' patients.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from primia_flwr.attacks.membership.attacked_run import AttackedRun, Questioned, questioned
from primia_flwr.attacks.membership.lira import BoolArray
from primia_flwr.attacks.membership.membership import Membership, infer_membership
from primia_flwr.attacks.membership.shadow_models import (
    OnShadow,
    ShadowModels,
    ShadowPlan,
    probabilities,
)
from primia_flwr.attacks.membership.shadow_plan import parts_for, plan_shadows
from primia_flwr.attacks.membership.shadow_recipe import ShadowRecipe
from primia_flwr.errors import ConfigError


@dataclass(frozen=True)
class MembershipAttack:
    """All that the attack needs; nothing has been trained or written.

    `inside`: (S, N) bool, whether a shadow model was trained on a questioned image.
    """

    run: AttackedRun
    asked: Questioned
    plan: ShadowPlan
    inside: BoolArray
    recipe: ShadowRecipe
    models: ShadowModels
    device: str

    def carry_out(
        self, *, variance: str, seed: int, on_shadow: OnShadow | None = None
    ) -> Membership:
        """Train the shadow models that are not there yet, and attack.

        Raises
        ------
        PrimiaError
            If a shadow model cannot be trained or kept.
        """
        shadows = self.models.confidences(self.asked.images, self.device, on_shadow)
        return infer_membership(
            probabilities(self.run.model, self.run, self.asked.images, self.device),
            self.asked.images,
            self.asked.member,
            shadows,
            self.inside,
            variance=variance,
            seed=seed,
        )

    def facts(self) -> dict[str, Any]:
        """Return what is asked about whom, and what it costs."""
        member = self.asked.member
        sizes = self.plan.inside.sum(axis=1)
        return {
            "attacker": f"site {self.asked.own_site}" if self.asked.own_site else "outsider",
            "members": self._count(member),
            "non_members": self._count(~member),
            "shadows": {
                "models": len(sizes),
                "finished": self.models.finished(),
                "mean_images": round(float(sizes.mean()), 1),
                "image_passes": sum(self.recipe.image_passes(int(size)) for size in sizes),
                "left_out_by": [int((~self.inside).sum(axis=0).min()), len(sizes)],
            },
        }

    def _count(self, chosen: BoolArray) -> dict[str, int]:
        patients = np.array(self.asked.images.patients)[chosen]
        return {"images": int(chosen.sum()), "patients": len(set(patients))}


def prepare(
    run: AttackedRun, *, own_site: str, shadows: int, seed: int, device: str, folder: Path
) -> MembershipAttack:
    """Load the images and plan the shadow models.

    Parameters
    ----------
    run : AttackedRun
        Of `open_run`, with the paths of its data on this machine.
    own_site : str
        The hospital that attacks; empty: the outsider.
    shadows : int
        How many shadow models.
    seed : int
        Of the parts and of the shadow models' training.
    device : str
        auto, cpu, cuda or cuda:<n>.
    folder : Path
        Where shadow models are kept.

    Raises
    ------
    ConfigError
        If an image would be left out by fewer than two shadow models.
    PrimiaError
        As `questioned`.
    """
    asked = questioned(run, own_site=own_site)
    pool = asked.images if asked.pool is None else asked.pool
    parts = 2 if own_site else parts_for(members=asked.target.images, pool=len(pool))
    labels = pool.labels.tolist()
    dealt = plan_shadows(pool.patients, labels, parts=parts, shadows=shadows, seed=seed)
    inside = dealt if asked.pool is None else np.zeros((shadows, len(asked.images)), np.bool_)
    if (~inside).sum(axis=0).min() < 2:
        raise ConfigError(
            f"shadows={shadows}; expected at least 4, so that every image is left out by at least "
            "two shadow models; set shadows=8"
        )
    plan = ShadowPlan(pool, dealt, seed)
    recipe = ShadowRecipe(run, asked.target, seed=seed, device=device)
    models = ShadowModels(run, plan, recipe, folder)
    return MembershipAttack(run, asked, plan, inside, recipe, models, device)
