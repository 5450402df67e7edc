"""Segmentation by hand: its loss, its sums, what cannot be, and its figures."""

import math

import numpy as np
import pytest
import torch

from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import ConfigError, DataError, ProtocolError
from primia_flwr.tasks.masks.counts import confusion_of, dice_of
from primia_flwr.tasks.masks.loss import SegmentationLoss, unit_losses
from primia_flwr.tasks.masks.runs import from_runs, to_runs
from primia_flwr.tasks.masks.scores import score_masks
from primia_flwr.tasks.masks.surface import surface_distances
from primia_flwr.tasks.task import Evaluation

TASK = TASKS["segmentation"]
NAMES = ("background", "lung", "cloud")
# Two images of 2 x 2: true and called. Class 1: 2 of 2 and 1 pixels, Dice 2/3; class 2 is called
# once where it is not, Dice 0. In the second image class 1 is right, and class 2 nowhere.
TRUE = np.array([[[0, 0], [1, 1]], [[1, 0], [0, 0]]], np.uint8)
CALLED = np.array([[[0, 0], [1, 2]], [[1, 0], [0, 0]]], np.uint8)


def logits_of(called, sure=50.0):
    hot = torch.nn.functional.one_hot(torch.from_numpy(called).long(), 3)
    return sure * hot.movedim(-1, 1).double()


def test_what_travels_by_hand():
    loss, counts = TASK.measure(logits_of(CALLED), torch.from_numpy(TRUE))
    assert counts["pixel-counts"].tolist() == [5, 0, 0, 0, 2, 1, 0, 0, 0]
    assert counts["dice-sums"].tolist() == [1_666_667, 0]
    assert counts["cases"].tolist() == [2, 1]
    assert [s.size for s in TASK.sums(3)] == [9, 2, 2]
    # Image 1: one of four pixels costs 50 nats; soft Dice (3 / 4 + 1 / 2) / 2. Image 2: nothing.
    assert loss == pytest.approx(50 / 4 + 1 - 5 / 8)
    evaluation = Evaluation.of(TASK, 3, loss, 2, counts)
    figures = evaluation.figures()
    assert figures["dice"] == pytest.approx((1.666667 / 2 + 0) / 2)
    assert figures["iou"] == pytest.approx((2 / 3 + 0) / 2)
    assert (evaluation + evaluation).figures() == figures


def test_only_background_has_nothing_to_find():
    nothing = torch.zeros(3, 2, 2, dtype=torch.uint8)
    _, counts = TASK.measure(logits_of(nothing.numpy()), nothing)
    assert TASK.figures(counts) == {"dice": 1.0, "iou": 1.0}


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        (
            {"pixel-counts": [5, 0, 0, 0, 2, 2, 0, 0, 0]},
            "counts 9 pixels, not as many in each of 2",
        ),
        ({"cases": [3, 1]}, "cases counts 3 images, not the 2 that were seen"),
        ({"dice-sums": [1_666_667, 1_000_001]}, "dice-sums has a Dice above 1"),
        ({"cases": [2]}, "cases has 1 entries"),
        ({"pixel-counts": [-1] * 9}, "smallest -1"),
    ],
)
def test_what_no_site_can_have_counted_is_refused(changed, wrong):
    _, counts = TASK.measure(logits_of(CALLED), torch.from_numpy(TRUE))
    with pytest.raises(ProtocolError, match=wrong):
        Evaluation.of(TASK, 3, 1.0, 2, {**counts, **changed})


def test_the_loss_of_each_image_is_its_own_and_the_batch_is_their_mean():
    torch.manual_seed(0)
    logits, masks = torch.randn(4, 3, 8, 8), torch.randint(0, 3, (4, 8, 8), dtype=torch.uint8)
    alone = torch.cat([unit_losses(logits[k : k + 1], masks[k : k + 1]) for k in range(4)])
    torch.testing.assert_close(unit_losses(logits, masks), alone)
    torch.testing.assert_close(SegmentationLoss()(logits, masks), alone.mean())
    shares = TASK.soft(masks, 3)
    assert shares.shape == (4, 3, 8, 8)
    torch.testing.assert_close(unit_losses(logits, shares), alone)


def test_the_loss_by_hand():
    # Even logits of 3 classes: ln 3 a pixel; probabilities 1/3 over 4 pixels, class 1 on all.
    loss = unit_losses(torch.zeros(1, 3, 2, 2), torch.ones(1, 2, 2, dtype=torch.uint8))
    dice = ((2 * 4 / 3 + 1) / (4 / 3 + 4 + 1) + 1 / (4 / 3 + 1)) / 2
    assert loss.item() == pytest.approx(math.log(3) + 1 - dice)


def test_label_smoothing_is_that_of_pytorch():
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    plain, smooth = (unit_losses(logits, masks, label_smoothing=s) for s in (0.0, 0.2))
    entropy = [
        torch.nn.functional.cross_entropy(logits, masks, reduction="none", label_smoothing=s)
        for s in (0.0, 0.2)
    ]
    torch.testing.assert_close(smooth - plain, (entropy[1] - entropy[0]).mean((1, 2)))


def test_images_are_counted_by_the_last_class_they_show():
    masks = torch.tensor([[[0, 0], [0, 0]], [[0, 1], [0, 0]], [[2, 1], [0, 0]]]).to(torch.uint8)
    images = LabelledImages(
        torch.zeros(3, 1, 2, 2, dtype=torch.uint8), masks, ("a", "b", "c"), ("p", "q", "r"), NAMES,
        task=TASK,
    )  # fmt: skip
    assert images.label_counts() == [1, 1, 1]


def test_class_weights_are_refused():
    with pytest.raises(ConfigError, match=r"class_weights=balanced .* expected none"):
        TASK.loss(TrainingConfig(class_weights="balanced"))


def test_scores_by_hand():
    scores = score_masks(TRUE, CALLED, NAMES)
    assert scores.per_class["lung"].dice == pytest.approx((2 / 3 + 1) / 2)
    assert scores.per_class["cloud"].dice == 0
    assert scores.per_class["cloud"].hd95 is None
    assert scores.per_class["cloud"].n == 0
    assert scores.dice == pytest.approx(5 / 12)
    assert scores.iou == pytest.approx(1 / 3)
    assert scores.without == 1
    assert "Dice 0" in scores.notes[0]
    assert type(scores).from_dict(scores.to_dict()) == scores


@pytest.mark.parametrize(
    ("true", "called", "words"),
    [
        (TRUE[:0], CALLED[:0], "at least one"),
        (TRUE, CALLED[:1], "the same number"),
        (TRUE, CALLED + 1, "expected 0 to 2"),
    ],
)
def test_masks_that_do_not_fit_are_refused(true, called, words):
    with pytest.raises(DataError, match=words):
        score_masks(true, called, NAMES)


def square(top, side, size=16):
    region = np.zeros((size, size), bool)
    region[top : top + side, top : top + side] = True
    return region


def test_distances_of_squares_by_hand():
    assert surface_distances(square(4, 4), square(4, 4)) == (0, 0)
    # One pixel against one three to the right and four below: 5 both ways.
    assert surface_distances(square(2, 1), np.roll(square(2, 1), (4, 3), (0, 1))) == (5, 5)
    # The outline of 5 x 5 around the one of 3 x 3: 12 of its 16 pixels at 1, its corners at √2.
    farthest, mean = surface_distances(square(5, 3), square(4, 5))
    assert farthest == pytest.approx(math.sqrt(2))
    assert mean == pytest.approx((8 + 12 + 4 * math.sqrt(2)) / 24)
    assert np.isnan(surface_distances(square(4, 4), square(4, 0))).all()


def test_distances_of_slices_side_by_side_go_through_the_volume():
    # Four slices of 6 x 6: a voxel in the first, and one two slices on and one to the right.
    true, called = np.zeros((6, 24), bool), np.zeros((6, 24), bool)
    true[2, 1], called[2, 2 * 6 + 2] = True, True
    assert surface_distances(true, called) == pytest.approx((math.sqrt(5), math.sqrt(5)))
    # A voxel that touches what is outside in another slice only is of the outline: 27 but the one
    # in the middle, against that one: 6 at 1, 12 at √2, 8 at √3, and back 1.
    cube, middle = np.zeros((4, 6, 6), bool), np.zeros((4, 6, 6), bool)
    cube[:3, 1:4, 1:4], middle[1, 2, 2] = True, True
    farthest, mean = surface_distances(*(np.concatenate(one, axis=1) for one in (cube, middle)))
    assert farthest == pytest.approx(math.sqrt(3))
    assert mean == pytest.approx((6 + 12 * math.sqrt(2) + 8 * math.sqrt(3) + 1) / 27)


def test_dice_of_a_class_that_is_nowhere_is_not_defined():
    assert np.isnan(dice_of(confusion_of(TRUE, CALLED, 3))[1, 2])


def test_a_mask_goes_through_its_runs():
    assert to_runs(np.array([[0, 0, 0], [0, 1, 1]])) == "2x3:0*4 1*2"
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 4, (7, 5)).astype(np.uint8)
    assert np.array_equal(from_runs(to_runs(mask)), mask)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2x3",
        "2x3:",
        "2x3:0*5",
        "0x3:0*0",
        "2x3:0*4 256*2",
        "9999x9999:0*99980001",
        "2x3:0*4-1*2",
    ],
)
def test_other_texts_are_no_masks(text):
    with pytest.raises(ValueError, match="mask"):
        from_runs(text)
