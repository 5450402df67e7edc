"""Several models as one: the weighted mean of their probabilities."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from primia_flwr.config.rows import TASKS
from primia_flwr.models.votes import Votes


class Ensemble(nn.Module):
    """Averages what its members' outputs mean, e.g. the probabilities of classes.

    What it returns are logits of that mean, so that it is used like any of its members. A member of
    weight 0 is kept, and not asked.

    Parameters
    ----------
    members : mapping of name to Module
        One for each name in `votes`; all with outputs of the same shape.
    votes : Votes
        Their weights, and the task that says what an output means.
    """

    def __init__(self, members: Mapping[str, nn.Module], votes: Votes) -> None:
        super().__init__()
        self.votes = votes
        self.members = nn.ModuleList(members[name] for name in votes.members)
        self._task = TASKS[votes.task]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of the mean, of the shape that each member gives."""
        pairs = zip(self.members, self.votes.weights, strict=True)
        asked = [(member(images), weight) for member, weight in pairs if weight > 0]
        weights = torch.tensor([weight for _, weight in asked]).to(asked[0][0])
        mixed: Tensor = self._task.mixed(torch.stack([logits for logits, _ in asked]), weights)
        return mixed
