"""Privacy-Net: an encoder at the hospital, trained to hide who is on the image, judged by others.

An encoder maps an image to feature maps that a server classifies. It is trained with the server's
network, and against a re-identifier that tells whether two encodings are of one patient: with
weight w the encoder wants that re-identifier's answer to be uniform. Afterwards three strangers
judge the frozen encoder: a fresh re-identifier and a fresh decoder, each trained on the encodings
of images that whoever has the encoder can make, and tested on other patients. Beside it the
re-identifier that it trained against. Pairs are of one finding, so that the finding, which must
stay, does not count as identity.

All images are in one place: averaging the hospitals' gradients, secure or not, takes the same
steps. Compared, not recommended.

    python -m primia_bench.compared.privacy_net --output results/compared_privacy_net.json

Source: Kim et al. 2019, Privacy-Net: an adversarial approach for identity-obfuscated segmentation.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.metrics import matthews_corrcoef, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from primia_bench.compared.drawn_twice import FINDINGS, SIZE, Pairs, drawn
from primia_bench.machine import describe_machine, publish
from primia_flwr.attacks.inversion.scoring.measures import likeness

CODES = 8  # channels of an encoding, at half the side
PATIENTS, TEST = 800, 200  # of all, the last ones for tests
RATE, WEIGHTS = 2e-3, (0.1, 0.5, 2.0)


def encoder() -> nn.Sequential:
    """Return the hospital's network; its output has a fixed scale."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, CODES, 3, padding=1), nn.GroupNorm(1, CODES, affine=False)),
    )


def trunk(inputs: int, outputs: int) -> nn.Sequential:
    """Return the network that classifies encodings, or embeds them to compare patients."""
    return nn.Sequential(
        *(nn.Conv2d(inputs, 32, 3, stride=2, padding=1), nn.GroupNorm(4, 32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.GroupNorm(4, 64), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64 * (SIZE // 8) ** 2, outputs)),
    )


def decoder(inputs: int) -> nn.Sequential:
    """Return a network from encodings to images."""
    return nn.Sequential(
        *(nn.Conv2d(inputs, 32, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 4, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid()),
    )


def comparisons(embed: nn.Module, codes: Tensor, findings: Tensor) -> Tensor:
    """Return log-probabilities (N, N) that second images are of first images' patients.

    codes: (N, 2, C, H, W). Of another finding: probability 0.
    """
    first, second = (functional.normalize(embed(codes[:, view])) for view in (0, 1))
    scores = 10 * first @ second.T
    scores = scores.masked_fill(findings[:, None] != findings, -30.0)
    return scores.log_softmax(dim=1)


def identity_loss(embed: nn.Module, codes: Tensor, findings: Tensor) -> Tensor:
    """Return what a re-identifier minimises."""
    return -comparisons(embed, codes, findings).diagonal().mean()


def confusion_loss(embed: nn.Module, codes: Tensor, findings: Tensor) -> Tensor:
    """Return what the encoder minimises: how far the answer is from uniform over a finding."""
    answers = comparisons(embed, codes, findings)
    uniform = (findings[:, None] == findings).float()
    uniform = uniform / uniform.sum(1, keepdim=True)
    return functional.kl_div(answers, uniform, reduction="batchmean")


def encoded(encode: nn.Module, images: Tensor) -> Tensor:
    """Return encodings (N, 2, C, H, W) of images (N, 2, 1, S, S)."""
    codes: Tensor = encode(images.flatten(0, 1))
    return codes.reshape(len(images), 2, *codes.shape[1:])


def train(
    train_set: Pairs, weight: float, steps: int, seed: int, encode: nn.Module
) -> tuple[nn.Module, nn.Module]:
    """Train an encoder in place with its classifier, against a re-identifier; return these two."""
    channels = encode(train_set.images[0]).shape[1]
    classify, adversary = trunk(channels, len(FINDINGS)), trunk(channels, 32)
    ours = torch.optim.Adam([*encode.parameters(), *classify.parameters()], lr=RATE)
    theirs = torch.optim.Adam(adversary.parameters(), lr=RATE)
    for rows in train_set.batches(steps, seed):
        codes, findings = encoded(encode, train_set.images[rows]), train_set.findings[rows]
        _descend(theirs, identity_loss(adversary, codes.detach(), findings))
        logits = classify(codes.flatten(0, 1))
        loss = functional.cross_entropy(logits, findings.repeat_interleave(2))
        if weight:
            loss = loss + weight * confusion_loss(adversary, codes, findings)
        _descend(ours, loss)
    return classify, adversary


def fresh(
    model: nn.Module, batches: Iterator[Tensor], loss: Callable[[nn.Module, Tensor], Tensor]
) -> nn.Module:
    """Train a stranger's network; `loss` gets it and a batch's rows."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for rows in batches:
        _descend(optimizer, loss(model, rows))
    return model


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@torch.no_grad()
def reidentified(embed: nn.Module, codes: Tensor, findings: Tensor) -> float:
    """Return the AUC of telling pairs of one patient from pairs of two with one finding.

    codes: (N, 2, C, H, W).
    """
    first, second = (functional.normalize(embed(codes[:, view])) for view in (0, 1))
    comparable = findings[:, None] == findings
    same = torch.eye(len(findings), dtype=torch.bool)
    return float(roc_auc_score(same[comparable].numpy(), (first @ second.T)[comparable].numpy()))


@torch.no_grad()
def mcc(classify: nn.Module, encode: nn.Module, test: Pairs) -> float:
    """Return the Matthews correlation of findings."""
    images, findings = test.flat
    return float(matthews_corrcoef(findings.numpy(), classify(encode(images)).argmax(1).numpy()))


@torch.no_grad()
def ssim(pictures: Tensor, images: Tensor) -> float:
    """Return the mean SSIM of pictures and images, (N, 1, S, S)."""
    found = [likeness(made, true).ssim for made, true in zip(pictures, images, strict=True)]
    return float(np.mean(found))


def judged(
    encode: nn.Module, train_set: Pairs, test: Pairs, steps: int, seed: int
) -> dict[str, float]:
    """Return what a fresh re-identifier and a fresh decoder make of an encoder."""
    with torch.no_grad():
        codes, tests = (encoded(encode, one.images) for one in (train_set, test))

    def tells(embed: nn.Module, rows: Tensor) -> Tensor:
        return identity_loss(embed, codes[rows], train_set.findings[rows])

    def rebuilds(decode: nn.Module, rows: Tensor) -> Tensor:
        made = decode(codes[rows].flatten(0, 1))
        return functional.mse_loss(made, train_set.images[rows].flatten(0, 1))

    channels = codes.shape[2]
    embed = fresh(trunk(channels, 32), train_set.batches(steps, seed + 1000), tells)
    decode = fresh(decoder(channels), train_set.batches(steps, seed + 2000), rebuilds)
    with torch.no_grad():
        pictures = decode(tests.flatten(0, 1))
    return {
        "auc_of_a_fresh_reidentifier": reidentified(embed, tests, test.findings),
        "ssim_of_a_fresh_decoder": ssim(pictures, test.flat[0]),
    }


def row(
    train_set: Pairs, test: Pairs, weight: float | None, steps: int, seed: int
) -> dict[str, float]:
    """Return one seed's figures; without a weight those of the raw image."""
    torch.manual_seed(seed)
    encode = nn.PixelUnshuffle(2) if weight is None else encoder()
    classify, adversary = train(train_set, weight or 0.0, steps, seed, encode)
    with torch.no_grad():
        codes = encoded(encode, test.images)
    return {
        "mcc": mcc(classify, encode, test),
        "auc_of_the_one_it_trained_against": reidentified(adversary, codes, test.findings),
        **judged(encode, train_set, test, steps, seed),
    }


def summary(seeds: list[dict[str, float]]) -> dict[str, Any]:
    """Return means, and the seeds' own figures."""
    means = {key: round(statistics.mean(one[key] for one in seeds), 3) for key in seeds[0]}
    return {**means, "seeds": seeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    train_set, test = drawn(range(PATIENTS - TEST)), drawn(range(PATIENTS - TEST, PATIENTS))
    kinds = {"raw": None, "no_adversary": 0.0, **{f"weight_{w:g}": w for w in WEIGHTS}}
    rows = {
        name: summary([row(train_set, test, weight, given.steps, seed) for seed in given.seeds])
        for name, weight in kinds.items()
    }
    images, _ = test.flat
    mean = train_set.images.mean((0, 1)).expand_as(images)
    result = {
        "benchmark": "compared_privacy_net",
        "patients": {"training": PATIENTS - TEST, "test": TEST, "images_each": 2},
        "pixels": SIZE,
        "steps": given.steps,
        "rows": rows,
        "ssim_of_the_mean_image": round(ssim(mean, images), 3),
        "processor_seconds": round(time.process_time() - began),
        "machine": describe_machine(),
    }
    publish(result, given.output)


if __name__ == "__main__":
    main()
