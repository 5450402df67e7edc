"""Several findings an image by hand: loss, sums, what cannot be, figures; what is unknown."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import DataError, ProtocolError
from primia_flwr.tasks.findings import BINS, SCORES, UNKNOWN
from primia_flwr.tasks.findings.counts import areas_of, binned, confusion_of, rarest_of
from primia_flwr.tasks.findings.evidence import findings_evidence
from primia_flwr.tasks.findings.loss import FindingsLoss, unit_losses
from primia_flwr.tasks.findings.scores import score_findings
from primia_flwr.tasks.findings.summed import summed_figures, summed_mean
from primia_flwr.tasks.predictions import Predictions
from primia_flwr.tasks.task import Evaluation

TASK = TASKS["multilabel"]
NAMES = ("effusion", "nodule")
# Of the effusion: present at 2, absent at -1 and 3. Of the nodule: present at 1; else unknown.
LABELS = torch.tensor([[1, -1], [0, 1], [0, -1]], dtype=torch.int8)
LOGITS = torch.tensor([[2.0, 5.0], [-1.0, 1.0], [3.0, -7.0]], dtype=torch.float64)


def softplus(value):
    return math.log1p(math.exp(value))


def images_of(labels):
    n = len(labels)
    return LabelledImages(
        torch.zeros(n, 1, 2, 2, dtype=torch.uint8), labels, tuple("abcdef"[:n]),
        tuple("pqrstu"[:n]), NAMES, task=TASK,
    )  # fmt: skip


def test_the_loss_by_hand():
    by_image = [softplus(-2), (softplus(-1) + softplus(-1)) / 2, softplus(3)]
    assert unit_losses(LOGITS, LABELS).tolist() == pytest.approx(by_image)
    loss, _ = TASK.measure(LOGITS, LABELS)
    assert loss == pytest.approx(sum(by_image))
    assert FindingsLoss()(LOGITS, LABELS).item() == pytest.approx(sum(by_image) / 3)
    nothing = torch.full((1, 2), UNKNOWN, dtype=torch.int8)
    assert unit_losses(LOGITS[:1], nothing).tolist() == [0]


def test_the_loss_is_that_of_pytorch_where_all_is_known():
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 4), torch.randint(0, 2, (6, 4)).to(torch.int8)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    torch.testing.assert_close(FindingsLoss()(logits, labels), expected)
    smooth = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels.float() * 0.8 + 0.1
    )
    torch.testing.assert_close(FindingsLoss(label_smoothing=0.2)(logits, labels), smooth)
    torch.testing.assert_close(FindingsLoss()(logits, TASK.soft(labels, 4)), expected)


def test_unknown_labels_change_no_loss_no_gradient_and_no_figure():
    """Whatever the model says where a label is unknown: the same loss and gradients, by value."""
    torch.manual_seed(1)
    labels = torch.randint(-1, 2, (40, 3)).to(torch.int8)
    labels[:, 0] = torch.arange(40) % 2  # known of every image
    first = torch.randn(40, 3, dtype=torch.float64)
    other = torch.where(labels == UNKNOWN, torch.randn(40, 3, dtype=torch.float64) * 9, first)
    found = []
    for logits in (first, other):
        logits = logits.clone().requires_grad_()
        FindingsLoss(weights=[1.5, 0.5, 2.0, 0.75, 1.5, 0.6])(logits, labels).backward()
        with torch.no_grad():
            loss, counts = TASK.measure(logits.detach(), labels)
        p = TASK.probabilities(logits.detach()).numpy()
        made = Predictions(tuple(map(str, range(40))), tuple(map(str, range(40))),
                           labels.numpy(), p, ("a", "b", "c"))  # fmt: skip
        evidence = findings_evidence({"m": made}, ("auc",), seed=0, resamples=50)
        found.append(
            (loss, counts[SCORES].tolist(), score_findings(labels.numpy(), p, "abc"),
             repr(evidence), logits.grad.tolist())
        )  # fmt: skip
    assert found[0] == found[1]
    assert (torch.tensor(found[0][4])[labels == UNKNOWN] == 0).all()


def test_what_travels_by_hand():
    loss, counts = TASK.measure(LOGITS, LABELS)
    scores = counts[SCORES].reshape(2, 2, BINS)
    assert scores.sum(axis=2).tolist() == [[2, 1], [0, 1]]
    # Bins are 1/8 wide from -8 on: a logit of -1 is in bin 56, 2 in 80, 3 in 88, 1 in 72.
    assert np.flatnonzero(scores[0, 0]).tolist() == [56, 88]
    assert np.flatnonzero(scores[0, 1]).tolist() == [80]
    assert np.flatnonzero(scores[1, 1]).tolist() == [72]
    assert confusion_of(scores).tolist() == [[[1, 1], [0, 1]], [[0, 0], [0, 1]]]
    evaluation = Evaluation.of(TASK, 2, loss, 3, counts)
    figures = evaluation.figures()
    # The nodule has no absent image, so the effusion stands alone: one of two pairs is right.
    assert figures["auc"] == 0.5
    assert figures["balanced_accuracy"] == (1 + 1 / 2) / 2
    assert (evaluation + evaluation).figures() == figures


def test_a_logit_of_zero_is_called_and_what_lies_beyond_the_bins_is_kept():
    logits = np.array([[0.0], [-1e-9], [1e9], [-1e9], [np.inf], [-np.inf], [np.nan]])
    scores = binned(logits, np.ones((7, 1), np.int8))[0, 1]
    assert (scores[64], scores[63], scores[-1], scores[0]) == (1, 1, 2, 3)


@pytest.mark.parametrize("seed", range(4))
def test_the_area_is_within_the_error_that_it_states(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (300, 2))
    logits = rng.normal(size=(300, 2)) * [2, 0.1] + labels * [1, 0.1]
    found, error = areas_of(binned(logits, labels))
    exact = [roc_auc_score(labels[:, k], logits[:, k]) for k in range(2)]
    assert (np.abs(found - exact) <= error).all()
    assert error[0] < 0.02 < error[1]  # scores of a narrow spread share bins, and that is said
    # Where no two labels share a bin, the area is exact.
    apart = areas_of(binned(np.array([[1.0], [2.0], [3.0]]), np.array([[0], [1], [0]])))
    assert (apart[0][0], apart[1][0]) == (0.5, 0)


def _measured(logits, labels):
    loss, counts = TASK.measure(logits, labels)
    return loss, len(labels), counts


def test_sums_over_sites_are_those_of_all_images():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(-1, 2, (50, 3)).astype(np.int8))
    labels[:, 0] = torch.arange(50) % 2
    logits = torch.from_numpy(rng.normal(size=(50, 3)))
    parts = [
        Evaluation.of(TASK, 3, *_measured(logits[rows], labels[rows]))
        for rows in (slice(0, 20), slice(20, 50))
    ]
    whole = Evaluation.of(TASK, 3, *_measured(logits, labels))
    summed = parts[0] + parts[1]
    assert summed.counts[SCORES].tolist() == whole.counts[SCORES].tolist()
    assert summed.figures() == pytest.approx(whole.figures())


def changed(scores, *, by):
    found = scores.copy()
    found[0] += by
    return found


@pytest.mark.parametrize(
    ("counts", "wrong"),
    [
        (lambda s: changed(s, by=1), "counts 4 images of a finding, not 3 or fewer"),
        (lambda s: s * 0, "counts 0 labels, not one or more of 3 images"),
        (lambda s: changed(s, by=-1), "smallest -1"),
        (lambda s: s[:-1], "has 511 entries"),
    ],
)
def test_what_no_site_can_have_counted_is_refused(counts, wrong):
    scores = TASK.measure(LOGITS, LABELS)[1][SCORES]
    with pytest.raises(ProtocolError, match=wrong):
        Evaluation.of(TASK, 2, 1.0, 3, {SCORES: counts(scores)})


def test_labels_are_counted_by_finding_and_weigh_alike():
    counts = images_of(LABELS).label_counts()
    assert counts == [1, 1, 2, 0, 3]
    assert TASK.label_sum(2).size == len(TASK.label_names(NAMES)) == len(counts)
    assert TASK.labelled(counts) == 3
    # The effusion: 3 known, 1 present and 2 absent. The nodule has one label only.
    assert TASK.label_weights(counts) == (1.5, 1.0, 0.75, 1.0)
    with pytest.raises(DataError, match="expected counts of at least 0 and images"):
        TASK.label_weights([1, -1, 2, 0, 3])
    rows = TASK.label_rows(LABELS, 2).double()
    assert (rows.norm(dim=1) <= TASK.row_norm(2)).all()
    everything_known = TASK.label_rows(torch.ones(1, 2, dtype=torch.int8), 2).double()
    assert everything_known.norm().item() == pytest.approx(TASK.row_norm(2))


def test_balanced_weights_make_both_labels_cost_alike():
    labels = torch.tensor([[1], [0], [0], [0]], dtype=torch.int8)
    weights = TASK.label_weights([1, 3, 4])
    costs = unit_losses(torch.zeros(4, 1), labels, weights=torch.tensor(weights))
    assert costs[0].item() == pytest.approx(costs[1:].sum().item())
    assert costs.mean().item() == pytest.approx(math.log(2))
    loss = TASK.loss(TrainingConfig(class_weights="balanced"), weights)
    assert loss(torch.zeros(4, 1), labels).item() == pytest.approx(math.log(2))


def test_images_are_grouped_by_the_rarest_finding_that_they_show():
    labels = np.array([[1, 1], [1, 0], [0, -1], [1, -1]])
    assert rarest_of(labels).tolist() == [1, 0, 2, 0]


def test_models_are_mixed_by_their_probabilities():
    logits = torch.tensor([[[0.0, 700.0]], [[-800.0, 0.0]]], dtype=torch.float64)
    mixed = TASK.mixed(logits, torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert TASK.probabilities(mixed).tolist() == [pytest.approx([0.25, 0.75])]


def test_scores_by_hand():
    p = TASK.probabilities(LOGITS).numpy()
    scores = score_findings(LABELS.numpy(), p, NAMES)
    effusion, nodule = scores.per_finding.values()
    assert (effusion.present, effusion.absent, effusion.unknown) == (1, 2, 0)
    assert (effusion.auc, effusion.sensitivity, effusion.specificity) == (0.5, 1.0, 0.5)
    assert (effusion.threshold, effusion.specificity_there) == (p[0, 0], 0.5)
    assert (nodule.auc, nodule.sensitivity, nodule.specificity) == (None, 1.0, None)
    assert scores.notes == ("nodule: no image in which it is absent",)
    assert (scores.auc, scores.balanced_accuracy) == (0.5, 0.75)
    assert scores.loss == pytest.approx(TASK.measure(LOGITS, LABELS)[0] / 3)
    assert type(scores).from_dict(scores.to_dict()) == scores


@pytest.mark.parametrize(
    ("labels", "p", "words"),
    [
        (np.zeros((0, 2)), np.zeros((0, 2)), "at least one"),
        (np.zeros((3, 2)), np.zeros((3, 1)), "one a finding"),
        (np.full((3, 2), 2), np.zeros((3, 2)), "expected 1, 0, or -1"),
        (np.full((3, 2), -2), np.zeros((3, 2)), "expected 1, 0, or -1"),
        (np.zeros((3, 2)), np.full((3, 2), np.nan), "are no probabilities"),
        (np.zeros((3, 2)), np.full((3, 2), 1.01), "are no probabilities"),
    ],
)
def test_what_cannot_be_judged_is_refused(labels, p, words):
    with pytest.raises(DataError, match=words):
        score_findings(labels, p, NAMES)


def test_summed_figures_have_intervals_with_the_bins_error():
    labels = np.repeat([[0], [1]], 20, axis=0)
    logits = np.concatenate([np.arange(20) / 8 - 1, np.arange(20) / 8 + 0.25])[:, None]
    ((area, sensitivity, specificity),) = summed_figures(binned(logits, labels))
    exact = roc_auc_score(labels[:, 0], logits[:, 0])
    assert area.value == pytest.approx(exact)
    assert area.low < exact < area.high
    assert (sensitivity.value, specificity.value) == (1.0, 8 / 20)
    mean = summed_mean(binned(logits, labels))
    # Ten bins hold one image of each label: 10 / 400 pairs are ties, half of it is the error.
    assert (mean.low, mean.high) == pytest.approx((exact - 10 / 800, exact + 10 / 800))


def test_cells_go_through_a_file():
    judge = TASK.judge
    p = TASK.probabilities(LOGITS).numpy()
    assert judge.columns(NAMES) == ["effusion", "nodule", "p_effusion", "p_nodule"]
    assert judge.names_of(judge.columns(NAMES)) == NAMES
    cells = judge.cells(LABELS[0].numpy(), p[0], NAMES)
    assert cells[:2] == ["1", ""]
    labels, outputs = judge.read_cells([str(cell) for cell in cells], NAMES)
    assert (labels, outputs) == ([1, -1], p[0].tolist())


@pytest.mark.parametrize("cells", [["2", "", "0.1", "0.2"], ["1", "", "x", "0.2"]])
def test_other_cells_are_refused(cells):
    with pytest.raises(ValueError, match="expected 1, 0 or nothing"):
        TASK.judge.read_cells(cells, NAMES)


@pytest.mark.parametrize("columns", [[], ["a"], ["a", "b"], ["a", "p_b"], ["a", "b", "p_b", "p_a"]])
def test_other_columns_are_refused(columns):
    with pytest.raises(ValueError, match="one column a finding"):
        TASK.judge.names_of(columns)
