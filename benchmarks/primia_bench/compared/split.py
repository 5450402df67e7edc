"""Split learning with the first layer at the hospital: its quality, its bytes, and its break.

The hospital holds the first layer, the labels and the loss; a server holds the rest, which all
hospitals share. For each batch four messages travel: activations up, logits down, and both their
gradients back. Measured on digits and on synthetic radiographs: MCC beside pooled training with as
many image passes, bytes a step beside those of a round of federated averaging, and after how many
images a round they are equal. And the break, from the activations alone: with the first layer known
(as here, where it begins public) the image comes back; with nothing known, the feature map that is
most like the image is the image's outline. Compared, not recommended.

    python -m primia_bench.compared.split --output results/compared_split.json

Source: Jeon et al. 2019, Privacy-preserving deep learning computation for geo-distributed medical
big-data platforms.
"""

import argparse
import copy
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import matthews_corrcoef
from torch import Tensor, nn
from torch.nn import functional

from primia_bench.machine import describe_machine, publish
from primia_flwr.attacks.inversion.scoring.measures import likeness
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.data.dataset import LabelledImages, load_pooled, load_test

SITES, BATCH, EPOCHS, RATE = 3, 16, 25, 2e-3
CHANNELS = 16
ATTACKED = 6
Set = tuple[Tensor, Tensor]  # images (N, 1, S, S) in [0, 1], labels (N,)


def digits() -> tuple[Set, Set]:
    """Return training and test digits, 16 x 16."""
    found = load_digits()
    images = torch.from_numpy(found.images / 16).float()[:, None]
    images = functional.interpolate(images, scale_factor=2)
    labels = torch.from_numpy(found.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[:400], order[400:]
    return (images[train], labels[train]), (images[test], labels[test])


def radiographs(size: int) -> tuple[Set, Set]:
    """Return synthetic radiographs of training and of other patients."""
    with tempfile.TemporaryDirectory(prefix="primia-split-") as folder:
        words = [f"data.image_size={size}", f"data.cache_dir={folder}"]
        experiment = parse(Experiment, compose("config", ["experiment=demo", *words]))
        pooled = load_pooled(experiment.data, seed=0, num_sites=1).train
        return _as_set(pooled), _as_set(load_test(experiment.data, seed=0))


def _as_set(found: LabelledImages) -> Set:
    return found.images.float() / 255, found.labels.clone()


def halves(size: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    """Return the hospital's layer and the server's network, the same weights every time."""
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(1, CHANNELS, 3, padding=1), nn.ReLU())
    rest = nn.Sequential(
        *(nn.MaxPool2d(2), *_block(CHANNELS, 32), nn.MaxPool2d(2), *_block(32, 64)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, outputs)),
    )
    return first, rest


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU()


def batches(count: int, epoch: int) -> Iterator[Tensor]:
    """Return the indices of an epoch's batches."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(epoch))
    yield from torch.split(order, BATCH)


def split_step(first: nn.Module, rest: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Take one step's gradients over the four messages; return their bytes."""
    kept = first(images)
    sent = kept.detach().requires_grad_()  # up
    logits = rest(sent)
    answered = logits.detach().requires_grad_()  # down
    functional.cross_entropy(answered, labels).backward()  # type: ignore[no-untyped-call]
    logits.backward(answered.grad)  # up
    kept.backward(sent.grad)  # down
    return int(2 * 4 * (sent.numel() + answered.numel()))


def train_split(sites: list[Set], outputs: int) -> tuple[list[nn.Module], nn.Module, int]:
    """Train the sites' layers and the server's network; return them and the bytes of a step."""
    first, rest = halves(sites[0][0].shape[-1], outputs)
    own = [copy.deepcopy(first) for _ in sites]
    server = torch.optim.Adam(rest.parameters(), lr=RATE)
    optimizers = [torch.optim.Adam(layer.parameters(), lr=RATE) for layer in own]
    sent = 0
    for epoch in range(EPOCHS):
        queues = [batches(len(labels), epoch) for _, labels in sites]
        for index, picked in _in_turn(queues):
            images, labels = sites[index]
            for optimizer in (server, optimizers[index]):
                optimizer.zero_grad()
            sent = max(sent, split_step(own[index], rest, images[picked], labels[picked]))
            for optimizer in (server, optimizers[index]):
                optimizer.step()
    return own, rest, sent


def _in_turn(queues: list[Iterator[Tensor]]) -> Iterator[tuple[int, Tensor]]:
    waiting = list(enumerate(queues))
    while waiting:
        for pair in list(waiting):
            picked = next(pair[1], None)
            if picked is None:
                waiting.remove(pair)
            else:
                yield pair[0], picked


def train_pooled(data: Set, outputs: int) -> nn.Module:
    """Train the same network on all images in one place."""
    model = nn.Sequential(*halves(data[0].shape[-1], outputs))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for epoch in range(EPOCHS):
        for picked in batches(len(data[1]), epoch):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(data[0][picked]), data[1][picked])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model


@torch.no_grad()
def mcc(model: nn.Module, test: Set) -> float:
    """Return the Matthews correlation on a test set."""
    return float(matthews_corrcoef(test[1].numpy(), model(test[0]).argmax(1).numpy()))


def rebuilt(first: nn.Module, seen: Tensor, size: int) -> Tensor:
    """Return images (N, 1, S, S) whose activations are those seen, by gradient descent."""
    found = torch.full((len(seen), 1, size, size), 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([found], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        ((first(found) - seen) ** 2).mean().backward()
        optimizer.step()
    return found.detach().clamp(0, 1)


def attacks(own: list[nn.Module], test: Set) -> dict[str, float]:
    """Return how alike pictures from activations are to the images: SSIM, means of `ATTACKED`."""
    images, size = test[0][:ATTACKED], test[0].shape[-1]
    with torch.no_grad():
        seen = own[0](images)
    known = rebuilt(own[0], seen, size)
    public, _ = halves(size, 2)
    maps = [_stretched(seen[:, channel : channel + 1]) for channel in range(CHANNELS)]
    return {
        "layer_known": _ssim(known, images),
        "layer_guessed_as_it_began": _ssim(rebuilt(public, seen, size), images),
        "nothing_known_best_feature_map": max(_ssim(one, images) for one in maps),
        "identified_by_that_map": _identified(max(maps, key=lambda m: _ssim(m, images)), test[0]),
    }


def _stretched(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-6)


def _ssim(one: Tensor, other: Tensor) -> float:
    found = [likeness(a, b).ssim for a, b in zip(one, other, strict=True)]
    return round(float(np.mean(found)), 3)


def _identified(pictures: Tensor, images: Tensor) -> float:
    """Return the share of pictures that correlate best with their own image among all."""
    rows = [functional.normalize(x.flatten(1) - x.flatten(1).mean(1, keepdim=True)) for x in
            (pictures, images)]  # fmt: skip
    return float(((rows[0] @ rows[1].T).argmax(1) == torch.arange(len(pictures))).float().mean())


def measure(train: Set, test: Set) -> dict[str, Any]:
    """Return quality, bytes and the attacks of one data set."""
    outputs = int(train[1].max()) + 1
    dealt = torch.randperm(len(train[1]), generator=torch.Generator().manual_seed(1))
    parts = dealt.tensor_split(SITES)
    sites = [(train[0][part], train[1][part]) for part in parts]
    own, rest, step = train_split(sites, outputs)
    pooled = mcc(train_pooled(train, outputs), test)
    split = float(np.mean([mcc(nn.Sequential(layer, rest), test) for layer in own]))
    averaging = 2 * 4 * sum(p.numel() for half in (own[0], rest) for p in half.parameters())
    return {
        "mcc_split": round(split, 4),
        "mcc_pooled": round(pooled, 4),
        "split_minus_pooled": round(split - pooled, 4),
        "bytes_a_step": step,
        "bytes_a_round_of_averaging": averaging,
        "images_a_round_at_which_both_send_alike": round(averaging / step * BATCH),
        "attack_ssim": attacks(own, test),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", type=int, default=32, help="pixels of the radiographs")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    given = parser.parse_args()
    torch.manual_seed(0)
    result = {
        "benchmark": "compared_split",
        "sites": SITES,
        "batch": BATCH,
        "epochs": EPOCHS,
        "digits": measure(*digits()),
        "radiographs": measure(*radiographs(given.size)),
        "machine": describe_machine(),
    }
    publish(result, given.output)


if __name__ == "__main__":
    main()
