"""What labelled synthetic images with differential privacy are worth, and what they still tell.

Each arm is `primia synthesise` itself: real images in, a folder of synthetic ones out, the ledger
charged. A logistic regression on pixels is trained on the synthetic images, and for comparison on
the real ones that they stand for, and tested on real images of others: macro one-vs-rest ROC-AUC
with a bootstrap interval over test patients. Data:

- `digits`: 1,797 handwritten digits of scikit-learn, 8 x 8 pixels doubled to 16 x 16; an image is
  the unit; 400 are tested on. At epsilon 10 with several seeds, with one and with five
  discriminator steps for one of the generator, and at smaller epsilons.
- `drawn`: synthetic radiographs of this project at 32 x 32, three classes, by patient.
- `radiographs` with `--data`: the public children's radiographs at 32 x 32, by patient.

Membership attacks on what is released (Chen et al. 2020, GAN-Leaks, arXiv 1909.03935): an image is
the likelier a member the nearer the nearest of 2,000 synthetic images of its class is (`plain`);
the same less its distance to the nearest image of a real reference set (`calibrated`); and, of
digits with the first seed, the nearer the generator itself comes to it when its noise is descended
upon (`white_box`). Beside the advantage stands the largest that any attack can have: by (epsilon,
delta), and, far smaller, by the mechanism's own trade-off (total variation).

    python -m primia_bench.privacy.synthetic_images --output results/synthetic_images.json

Data of `radiographs`: Kermany, Zhang, Goldbaum, Mendeley Data V2, doi:10.17632/rscbjbr9sj.2, CC BY
4.0.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dp_accounting.pld import pld_privacy_accountant
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from primia_bench.machine import describe_machine, publish, save
from primia_flwr.attacks.membership.detection import detect
from primia_flwr.attacks.membership.dp_line import DpClaim, compare
from primia_flwr.cli.data.synthesise import COMMAND
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.dataset import (
    LabelledImages,
    hold_out_test,
    load_images,
    load_own_site,
    load_test,
)
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.privacy.accounting.events import SampledGaussian
from primia_flwr.statistics.auc import SortedScores
from primia_flwr.statistics.intervals import Strata, bootstrap_limits
from primia_flwr.storage.reading import parse_json, read_text
from primia_flwr.synthesis.adversarial import build_generator, draw_images
from primia_flwr.synthesis.config import GeneratorConfig
from primia_flwr.synthesis.networks import Generator

TARGET = 0.85
TESTED = 400  # digits
PER_CLASS = 500  # synthetic images that the classifier learns from
DRAWN = 2000  # of each class, by the attack
STRENGTH = 0.01  # C of the logistic regression
DESCENT = 60  # steps on the generator's noise


@dataclass(frozen=True)
class Arm:
    """One release: on which data, at which epsilon, with which further words."""

    data: str
    epsilon: float
    seed: int
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Real images as the command reads them: its words, and what it protects."""

    words: tuple[str, ...]
    members: LabelledImages
    others: LabelledImages


def digits(folder: Path) -> Source:
    """Write the digits as PNG files of class folders, those of the test apart."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    for place, row in enumerate(order):
        split = "test" if place < TESTED else "train"
        target = folder / "digits" / split / str(found.target[row]) / f"{row:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.kron(found.images[row] * 15.9375, np.ones((2, 2))).astype(np.uint8)
        Image.fromarray(pixels).save(target)
    words = (
        "data=folder", f"data.root={folder / 'digits'}", "data.resize=squash",
        f"data.classes=[{','.join(f'{k!r}' for k in map(str, range(10)))}]", "data.image_size=16",
        "privacy.unit=image", "privacy.steps=200",
    )  # fmt: skip
    return source(folder, words)


def drawn_radiographs(folder: Path) -> Source:
    """Draw radiographs; a table says which patients are tested on."""
    return split(folder, ("data=synthetic", "data.synthetic.patients=1000"))


def radiographs(folder: Path, root: Path) -> Source:
    """Take the public radiographs; a table says which patients are tested on."""
    return split(
        folder, ("data=pneumonia", f"data.root={root}", "data.augmentation.flip.horizontal=0")
    )


def split(folder: Path, words: tuple[str, ...]) -> Source:
    """Hold a fifth of the patients out."""
    cfg = configured(folder, (*words, "data.image_size=32"))
    whole = read_manifest(cfg, seed=0)
    develop, test = hold_out_test(cfg, whole, 0)
    assert test is not None
    samples = [replace(s, split="train") for s in develop.samples]
    samples += [replace(s, split="test") for s in test.samples]
    table = folder / f"{words[0].partition('=')[2]}.csv"
    whole.with_samples(samples).write_csv(table)
    return source(
        folder,
        (
            "data=manifest", f"data.manifest={table}", f"data.root={whole.root}",
            f"data.classes=[{','.join(whole.classes)}]", "data.image_size=32", "data.resize=squash",
            "privacy.unit=patient", "privacy.steps=150", "generator.width=16",
        ),
    )  # fmt: skip


def source(folder: Path, words: tuple[str, ...]) -> Source:
    """Read the images as the command does, and those of the test."""
    cfg = configured(folder, words)
    site = load_own_site(cfg, seed=1, name="local")
    return Source(words, site.train.joined(site.val), load_test(cfg, seed=1))


def configured(folder: Path, words: tuple[str, ...]) -> DataConfig:
    """Return the data's part of the command's configuration."""
    found: DataConfig = COMMAND.configured([*words, f"data.cache_dir={folder / 'cache'}"]).data
    return found


def pixels(images: LabelledImages) -> np.ndarray:
    """Return (N, S * S) float64 in [-1, 1]."""
    found: np.ndarray = images.images.reshape(len(images), -1).numpy() / 127.5 - 1
    return found


def score(train: LabelledImages, test: LabelledImages) -> dict[str, Any]:
    """Train on the one, test on the other: macro ROC-AUC with its interval over patients."""
    model = LogisticRegression(C=STRENGTH, max_iter=2000)
    model.fit(pixels(train), train.labels.numpy())
    found = model.predict_proba(pixels(test))
    labels = test.labels.numpy()
    strata = Strata.by_class(test.patients, labels)
    columns = [SortedScores(labels == k, found[:, k]) for k in range(len(test.classes))]

    def macro(weights: np.ndarray) -> np.ndarray:
        areas = [column.areas(weights[:, strata.of])[0] for column in columns]
        return np.asarray(np.nanmean(areas, axis=0))[None, :]

    value, low, high = bootstrap_limits(macro, strata, rng=np.random.default_rng(0))
    return {
        "roc_auc": round(float(value[0]), 4),
        "interval": [round(float(low[0]), 4), round(float(high[0]), 4)],
        "accuracy": round(float((found.argmax(1) == labels).mean()), 4),
        "test_images": len(test),
        "test_patients": len(set(test.patients)),
    }


def nearest(images: LabelledImages, others: LabelledImages) -> np.ndarray:
    """Return each image's distance to the nearest of the others of its class."""
    here, there = (torch.from_numpy(pixels(found)).float() for found in (images, others))
    distance = torch.empty(len(here))
    for label in range(len(images.classes)):
        own, theirs = images.labels == label, others.labels == label
        gaps: Tensor = torch.cdist(here[own], there[theirs])
        distance[own] = gaps.min(dim=1).values
    return distance.double().numpy()


def released(output: Path, card: dict[str, Any], classes: int) -> Generator:
    """Return the generator of a folder."""
    settings = {k: v for k, v in card["settings"].items() if k != "image_size"}
    size = card["settings"]["image_size"]
    net = build_generator(GeneratorConfig(**settings), classes=classes, size=size)
    net.load_state_dict(load_file(output / "generator.safetensors"))
    return net


def drawn_by(net: Generator, like: LabelledImages) -> LabelledImages:
    """Return as many images of each class as the attack draws for itself."""
    found = list(draw_images(net, [DRAWN] * len(like.classes), seed=2))
    names = tuple(map(str, range(len(found))))
    stacked = torch.from_numpy(np.stack([image for _, image in found]))[:, None]
    labels = torch.tensor([label for label, _ in found])
    return LabelledImages(stacked, labels, names, names, like.classes)


def reconstruction(net: Generator, images: LabelledImages) -> np.ndarray:
    """Return how near the released generator comes to each image of its class, by descent."""
    target = images.images.float() / 127.5 - 1
    torch.manual_seed(0)
    noise = torch.randn(len(images), net.latent).requires_grad_()
    descent = torch.optim.Adam([noise], lr=0.1)
    for _ in range(DESCENT):
        errors = (net(noise, images.labels) - target).square().flatten(1).sum(dim=1)
        (noise.grad,) = torch.autograd.grad(errors.sum(), noise)
        descent.step()
    found: np.ndarray = errors.detach().sqrt().double().numpy()
    return found


def attacked(real: Source, net: Generator, claim: DpClaim, *, descent: bool) -> dict[str, Any]:
    """Tell members from half of the other patients; the others are the attack's reference."""
    known = set(sorted(set(real.others.patients))[::2])
    half = torch.tensor([patient in known for patient in real.others.patients])
    reference, outside = (real.others.select(m.nonzero()[:, 0]) for m in (half, ~half))
    both = real.members.joined(outside)
    member = np.arange(len(both)) < len(real.members)
    plain = -nearest(both, drawn_by(net, real.members))
    found = {"plain": plain, "calibrated": plain + nearest(both, reference)}
    if descent:
        found["white_box"] = -reconstruction(net, both)
    results = {}
    for name, scores in found.items():
        told = detect(scores, member, both.patients, seed=0)
        results[name] = {**told.to_dict(), "beside_the_bound": compare(claim, told)}
    return results


def bounds(claim: DpClaim, event: SampledGaussian) -> dict[str, float]:
    """Return the largest advantage of any attack, by the claim and by the mechanism."""
    accountant = pld_privacy_accountant.PLDAccountant()
    once, times = event.dp_event()
    accountant.compose(once, times)
    ratio = float(np.exp(claim.epsilon))
    return {
        "largest_advantage_by_claim": round((ratio - 1 + 2 * claim.delta) / (ratio + 1), 6),
        "largest_advantage_by_mechanism": round(float(accountant.get_delta(0.0)), 6),
    }


def measured(arm: Arm, real: Source, folder: Path) -> dict[str, Any]:
    """Release, train, test, attack."""
    output = folder / f"out-{time.monotonic_ns()}"
    words = (
        *real.words, f"privacy.epsilon={arm.epsilon:g}", f"seed={arm.seed}", *arm.words,
        f"images={PER_CLASS}", f"output={output}", f"data.cache_dir={folder / 'cache'}",
        f"ledger={folder / output.name}-ledger", "privacy.delta=1e-5", "device=cpu", "quiet=true",
    )  # fmt: skip
    began = time.monotonic()
    result = COMMAND.run(COMMAND.configured(words))
    seconds = time.monotonic() - began
    assert result is not None
    card = parse_json(read_text(output / "synthesis.json"))
    cfg = replace(
        configured(folder, real.words), layout="folder", root=str(output), manifest="", split="auto"
    )
    synthetic = load_images(read_manifest(cfg, seed=1), cfg)
    net = released(output, card, len(real.members.classes))
    claim = DpClaim(result["epsilon"], result["delta"], result["unit"])
    event = SampledGaussian(
        **{k: card["privacy"][k] for k in ("noise_multiplier", "sampling_rate", "steps")}
    )
    return {
        "data": arm.data,
        "seed": arm.seed,
        "changed": list(arm.words),
        **card["privacy"],
        "trained_on_synthetic": score(synthetic, real.others),
        "membership": {
            **bounds(claim, event),
            **attacked(real, net, claim, descent=arm.seed == 1 and arm.data == "digits"),
        },
        "seconds_on_a_busy_machine": round(seconds, 1),
    }


def arms(names: list[str], seeds: int) -> list[Arm]:
    """Return what is measured."""
    found = [Arm("digits", 10.0, seed) for seed in range(1, seeds + 1)]
    found += [Arm("digits", 10.0, 1, (f"generator.discriminator_steps={k}",)) for k in (1, 5)]
    found += [Arm("digits", epsilon, 1) for epsilon in (1.0, 3.0)]
    found += [Arm(name, 8.0, 1) for name in ("drawn", "radiographs")]
    return [arm for arm in found if arm.data in names]


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="", help="folder of the public radiographs")
    parser.add_argument("--only", nargs="*", default=["digits", "drawn", "radiographs"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", default="")
    options = parser.parse_args()
    names = [n for n in options.only if n != "radiographs" or options.data]
    makers: dict[str, Callable[[Path], Source]] = {"digits": digits, "drawn": drawn_radiographs}
    with tempfile.TemporaryDirectory(prefix="primia-synthetic-") as name:
        folder = Path(name)
        makers["radiographs"] = lambda place: radiographs(place, Path(options.data))
        real = {n: makers[n](folder) for n in names}
        result: dict[str, Any] = {
            "benchmark": "synthetic_images",
            "machine": describe_machine(),
            "target_roc_auc_on_digits": TARGET,
            "trained_on_real": {n: score(s.members, s.others) for n, s in real.items()},
            "releases": [],
        }
        for arm in arms(names, options.seeds):
            result["releases"].append(measured(arm, real[arm.data], folder))
            save(result, options.output)
    at_ten = [r for r in result["releases"] if r["data"] == "digits" and not r["changed"]]
    areas = [r["trained_on_synthetic"]["roc_auc"] for r in at_ten if r["epsilon"] == 10]
    result["digits_at_epsilon_10"] = {
        "roc_auc": areas,
        "holds": bool(areas) and min(areas) >= TARGET,
    }
    publish(result, options.output)


if __name__ == "__main__":
    main()
