"""Images per second of a U-Net's local training against a bare PyTorch loop.

Both train the same model on the same images and masks, with flips of both, the same loss, batch
size and optimiser, alternately, in one thread of one process. A second is one of the processor,
so that other work on the machine counts for neither.

    python -m primia_bench.segmentation.throughput --output out.json
"""

import argparse
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from primia_bench.machine import describe_machine, publish
from primia_flwr.config.experiment.data import AugmentationConfig, FlipConfig
from primia_flwr.config.experiment.training import ModelConfig, TrainingConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.models import build_model
from primia_flwr.tasks.masks.loss import SegmentationLoss
from primia_flwr.training.fit import fit
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import LocalPlan
from primia_flwr.training.recipe import Recipe

_NAMES = ("background", "lung", "consolidation")
_AUGMENTATION = AugmentationConfig(flip=FlipConfig(horizontal=0.5))


def main() -> None:
    """Measure both loops and print the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--size", type=int, default=64, help="pixels along each side")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", default="")
    args = parser.parse_args()
    torch.set_num_threads(1)
    publish(measure(args), args.output)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run both loops alternately, after one unmeasured warm-up each."""
    generator = torch.Generator().manual_seed(0)
    shape = (args.images, args.size, args.size)
    images = torch.randint(0, 256, (args.images, 1, *shape[1:]), generator=generator)
    masks = torch.randint(0, len(_NAMES), shape, generator=generator)
    names = tuple(str(n) for n in range(args.images))
    data = LabelledImages(
        images.to(torch.uint8), masks.to(torch.uint8), names, names, _NAMES, synthetic=True,
        task=TASKS["segmentation"],
    )  # fmt: skip
    loops = {"fit": _ours, "bare": _bare}
    models = {
        name: build_model(ModelConfig(name="unet"), outputs=len(_NAMES), channels=1, seed=0)
        for name in loops
    }
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for repeat in range(args.repeats + 1):
        for name in list(loops) if repeat % 2 else list(loops)[::-1]:
            began = time.process_time()
            loops[name](models[name], data, args.batch_size)
            if repeat:
                speeds[name].append(args.images / (time.process_time() - began))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return {
        "benchmark": "segmentation_throughput",
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "images_per_processor_second": {k: round(v, 1) for k, v in medians.items()},
        "ratio": round(medians["fit"] / medians["bare"], 4),
        "all": {name: [round(value, 1) for value in values] for name, values in speeds.items()},
        "machine": describe_machine(),
    }


def _ours(model: nn.Module, data: LabelledImages, batch_size: int) -> None:
    cfg = TrainingConfig(batch_size=batch_size, threads=1, device="cpu")
    recipe = Recipe(cfg, Normalisation((0.5,), (0.25,)), 1, augmentation=_AUGMENTATION)
    fit(model, data, None, recipe, LocalPlan(0, 10_000, max_epochs=1))


def _bare(model: nn.Module, data: LabelledImages, batch_size: int) -> None:
    """Train for an epoch as a script of one's own would."""
    model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    criterion = SegmentationLoss()
    pairs = TensorDataset(data.images, data.labels)
    for images, masks in DataLoader(pairs, batch_size=batch_size, shuffle=True):
        flipped, moved = _flipped(images, masks)
        batch = flipped.float().div_(255).sub_(0.5).div_(0.25)
        batch = batch.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        criterion(model(batch), moved.long()).backward()
        optimizer.step()


def _flipped(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    turned = torch.rand(len(images)) < 0.5
    images[turned], masks[turned] = images[turned].flip(-1), masks[turned].flip(-1)
    return images, masks


if __name__ == "__main__":
    main()
