"""Who judges an encoder: comparisons of patients by hand, and strangers that do find a patient."""

import math

import pytest
import torch
from primia_bench.compared import privacy_net as net
from primia_bench.compared.drawn_twice import BATCH, SIZE, Pairs, drawn
from torch import Tensor, nn

FLAT = nn.Flatten()
# Three patients, the first alone with its finding; of each two orthogonal, equal views.
CODES = torch.eye(3)[:, None, :].repeat(1, 2, 1).reshape(3, 2, 3, 1, 1)
FINDINGS = torch.tensor([0, 1, 1])


def test_comparisons_by_hand() -> None:
    found = net.comparisons(FLAT, CODES, FINDINGS).exp()
    told = math.e**10 / (math.e**10 + 1)  # cosines 1 and 0, times 10
    expected = [[1, 0, 0], [0, told, 1 - told], [0, 1 - told, told]]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=0)
    loss = float(net.identity_loss(FLAT, CODES, FINDINGS))
    assert loss == pytest.approx(-2 / 3 * math.log(told), rel=1e-3)


def test_confusion_is_none_where_nobody_is_told_apart() -> None:
    assert float(net.confusion_loss(FLAT, torch.ones_like(CODES), FINDINGS)) < 1e-6
    # two of three rows: 1/2 log(1/2 / told) + 1/2 log(1/2 / (1 - told)) = log(1/2) + 5 + small
    confused = float(net.confusion_loss(FLAT, CODES, FINDINGS))
    assert confused == pytest.approx(2 / 3 * (math.log(0.5) + 5), abs=1e-3)


def test_pairs_of_different_findings_do_not_count() -> None:
    assert net.reidentified(FLAT, CODES, FINDINGS) == 1
    alike = CODES.clone()
    alike[0] = alike[1]  # of the other finding
    assert net.reidentified(FLAT, alike, FINDINGS) == 1
    assert net.reidentified(FLAT, alike, torch.tensor([1, 1, 1])) < 1
    assert net.reidentified(FLAT, torch.ones_like(CODES), FINDINGS) == 0.5


def strangers(encode: nn.Module) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    faces = torch.rand(60, 1, 1, 32, 32, generator=generator)
    noise = torch.rand(60, 2, 1, 32, 32, generator=generator)
    images = 0.7 * faces + 0.3 * noise
    people = Pairs(images[:40], torch.zeros(40)), Pairs(images[40:], torch.zeros(20))
    torch.manual_seed(0)
    return net.judged(encode, *people, steps=40, seed=0)


class Blank(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.zeros(len(images), 4, 16, 16)


def test_strangers_find_who_is_there_and_nobody_in_a_blank() -> None:
    seen, blank = strangers(nn.PixelUnshuffle(2)), strangers(Blank())
    assert seen["auc_of_a_fresh_reidentifier"] > 0.95
    assert blank["auc_of_a_fresh_reidentifier"] == 0.5
    assert seen["ssim_of_a_fresh_decoder"] > blank["ssim_of_a_fresh_decoder"] + 0.2


def test_a_patient_has_two_images_of_one_anatomy() -> None:
    one, again = drawn(range(3)), drawn(range(1, 3))
    torch.testing.assert_close(one.images[1:], again.images)  # whoever else is drawn
    assert one.images.shape == (3, 2, 1, SIZE, SIZE)
    assert (one.images[:, 0] - one.images[:, 1]).abs().amax((1, 2, 3)).min() > 0.05
    assert one.findings.tolist() == [0, 1, 2]


def test_each_patient_is_in_a_batch_once() -> None:
    people = Pairs(torch.zeros(40, 2, 1, 32, 32), torch.zeros(40))
    batches = list(people.batches(3, seed=0))
    assert [len(rows.unique()) for rows in batches] == [BATCH] * 3
