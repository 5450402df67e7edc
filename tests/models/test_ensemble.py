"""An ensemble is the weighted mean of probabilities, on disk and off."""

import json

import pytest
import torch
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.errors import CheckpointError
from primia_flwr.models import ModelCard, build_model, load_model, save_model
from primia_flwr.models.ensemble import Ensemble
from primia_flwr.models.votes import Votes


class Says(nn.Module):
    """A model that says the same of every image."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def votes(task, *weights):
    names = tuple("abcdef"[: len(weights)])
    return Votes(task, "mean", names, tuple(float(weight) for weight in weights))


def test_classes_by_hand():
    """Probabilities (3/4, 1/4) and (1/5, 4/5), one vote to three."""
    first, second = Says(3.0, 1.0), Says(1.0, 4.0)
    first.logits, second.logits = first.logits.log(), second.logits.log()
    both = Ensemble({"a": first, "b": second}, votes("classification", 0.25, 0.75))
    found = both(torch.zeros(2, 1, 4, 4)).softmax(dim=1)
    # 1/4 * 3/4 + 3/4 * 1/5 = 27/80
    torch.testing.assert_close(found, torch.tensor([[27 / 80, 53 / 80]] * 2))


def test_findings_by_hand():
    """Probabilities 1/2 and 1/5, alike: 7/20; and 1/2 and 4/5: 13/20."""
    first, second = Says(0.0, 0.0), Says(1 / 4, 4.0)
    second.logits = second.logits.log()
    both = Ensemble({"a": first, "b": second}, votes("multilabel", 0.5, 0.5))
    found = both(torch.zeros(1, 1, 4, 4)).sigmoid()
    torch.testing.assert_close(found, torch.tensor([[7 / 20, 13 / 20]]))


def test_each_pixel_of_a_mask_by_itself():
    task = TASKS["segmentation"]
    logits = torch.tensor([[[[[4.0]], [[1.0]]]], [[[[1.0]], [[2.0]]]]]).log()  # (K, N, C, H, W)
    mixed = task.mixed(logits, torch.tensor([0.5, 0.5])).softmax(dim=1)
    # (4/5 + 1/3) / 2 = 17/30
    torch.testing.assert_close(mixed[0, :, 0, 0], torch.tensor([17 / 30, 13 / 30]))


def test_certain_members_are_averaged_without_infinities():
    sure = Ensemble(
        {"a": Says(900.0, 0.0), "b": Says(0.0, 900.0)}, votes("classification", 0.9, 0.1)
    )
    found = sure(torch.zeros(1, 1, 4, 4)).softmax(dim=1)
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.1]]))


def test_a_member_without_a_vote_is_not_asked():
    class Never(nn.Module):
        def forward(self, images):
            pytest.fail("it has no vote")

    one = Ensemble({"a": Says(1.0, 2.0), "b": Never()}, votes("classification", 1, 0))
    assert one(torch.zeros(1, 1, 4, 4)).argmax() == 1


CONFIG = ModelConfig(name="simpleconv")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    members = {n: build_model(CONFIG, outputs=2, channels=1, seed=i) for i, n in enumerate("ab")}
    card = ModelCard(
        CONFIG, ("ill", "well"), 1, 32, "squash", (0.5,), (0.25,), "c0ffee", 3, True,
        kind="ensemble", votes=votes("classification", 0.25, 0.75),
    )  # fmt: skip
    model = Ensemble(members, card.votes).eval()
    save_model(folder, model, card)
    return folder, model


def test_it_comes_back_from_the_disk_with_its_votes(saved):
    folder, model = saved
    found, card = load_model(folder)
    assert (card.kind, card.votes) == ("ensemble", votes("classification", 0.25, 0.75))
    images = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found(images), model(images), rtol=0, atol=0)
    assert not found.training
    assert json.loads((folder / "model.json").read_text())["kind"] == "ensemble"


def test_where_one_model_is_needed_it_is_refused_with_one_sentence(saved):
    with pytest.raises(CheckpointError, match="holds an ensemble of 2 models; expected one model"):
        load_model(saved[0], single=True)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "single"},
        {"votes": None},
        {"votes": {"task": "classification", "vote": "mean", "members": ["a"], "weights": [1.0]}},
        {"votes": {"task": "x", "vote": "mean", "members": ["a", "b"], "weights": [0.5, 0.5]}},
        {
            "votes": {
                "task": "classification",
                "vote": "mean",
                "members": ["a", "c"],
                "weights": [0.5, 0.5],
            }
        },
    ],
)
def test_a_card_that_was_changed_is_one_sentence(saved, tmp_path, change):
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).write_bytes((saved[0] / name).read_bytes())
    values = json.loads((tmp_path / "model.json").read_text()) | change
    (tmp_path / "model.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="expected"):
        load_model(tmp_path)


def test_a_card_of_before_is_of_a_single_model(tmp_path):
    card = ModelCard(CONFIG, ("ill", "well"), 1, 32, "squash", (0.5,), (0.25,), "c0ffee", 3, True)
    values = card.to_dict()
    assert values.pop("kind") == "single"
    assert ModelCard.from_dict(values).kind == "single"
