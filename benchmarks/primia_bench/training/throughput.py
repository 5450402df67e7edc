"""Images per second of a site's local training against a bare PyTorch loop.

Both train the same model on the same tensors with the same augmentations, batch size,
precision, memory layout, optimiser and number of worker processes, one after the other,
several times, in one process. Each time is that of a whole call, from the first batch's order
to the last step on the device; `fit` also checks for NaN and hands back the weights.

    python -m primia_bench.training.throughput                              # ResNet-18, 64², CPU
    python -m primia_bench.training.throughput --model efficientnet_lite0 mobilenet_v2 densenet121
    python -m primia_bench.training.throughput --device cuda --precision bf16 \
        --batch-size 128 --image-size 224 --images 5120 --workers 12      # one GPU

`ratio` is the median of fit's images/s over the median of the bare loop's.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from primia_bench.machine import describe_machine, publish
from primia_flwr.config.experiment.data import (
    AffineConfig,
    AugmentationConfig,
    FlipConfig,
    ToneConfig,
)
from primia_flwr.config.experiment.training import (
    PRECISIONS,
    ModelConfig,
    TrainingConfig,
)
from primia_flwr.config.rows import MODELS
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.data.transforms import build_augmentation
from primia_flwr.models import build_model
from primia_flwr.training.device import pick_device
from primia_flwr.training.fit import fit
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import LocalPlan
from primia_flwr.training.recipe import Recipe

NORMALISATION = Normalisation(mean=(0.5,), std=(0.25,))
AUGMENTATION = AugmentationConfig(
    affine=AffineConfig(probability=1.0),
    flip=FlipConfig(horizontal=0.5),
    brightness=ToneConfig(probability=0.5),
)
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Bare(Dataset[tuple[Tensor, Tensor]]):
    """What a tutorial writes: one image at a time, augmented."""

    def __init__(self, data: LabelledImages, augment: Callable[[Tensor], Tensor] | None) -> None:
        self.data, self.augment = data, augment

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.data.images[index]
        return (self.augment(image) if self.augment else image), self.data.labels[index]


def bare_loop(model: nn.Module, data: LabelledImages, args: argparse.Namespace) -> int:
    """Train for `args.epochs` epochs as a script of one's own would; return the images seen."""
    device = pick_device(args.device)
    torch.backends.cudnn.benchmark = device.type == "cuda"
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    model.to(device).to(memory_format=layout).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=args.precision == "fp16")
    criterion = nn.CrossEntropyLoss()
    loader = DataLoader(
        Bare(data, build_augmentation(AUGMENTATION) if args.augment else None),
        batch_size=args.batch_size,
        shuffle=True,
        num_workers=args.workers,
        pin_memory=device.type == "cuda",
        persistent_workers=args.workers > 0,
        prefetch_factor=4 if args.workers else None,
    )
    seen = 0
    dtype = DTYPES[args.precision]
    for _ in range(args.epochs):
        for images, labels in loader:
            images = images.to(device, non_blocking=True).float().div_(255).sub_(0.5).div_(0.25)
            images = images.to(memory_format=layout)
            labels = labels.to(device, non_blocking=True)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                loss = criterion(model(images), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            seen += len(labels)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return seen


def ours(model: nn.Module, data: LabelledImages, args: argparse.Namespace) -> int:
    """Train for `args.epochs` epochs with `fit`; return the images seen."""
    cfg = TrainingConfig(
        batch_size=args.batch_size,
        local_epochs=args.epochs,
        precision=args.precision,
        channels_last=args.channels_last,
        workers=args.workers,
        device=args.device,
    )
    recipe = Recipe(cfg, NORMALISATION, 1, augmentation=AUGMENTATION if args.augment else None)
    plan = LocalPlan(0, 10_000, max_epochs=args.epochs)
    result = fit(model, data, None, recipe, plan)
    return result.images_seen


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run both loops of a model `args.repeats` times, alternately; the first pair is a warm-up."""
    generator = torch.Generator().manual_seed(0)
    shape = (args.images, 1, args.image_size, args.image_size)
    labels = torch.arange(args.images) % 3
    names = tuple(str(n) for n in range(args.images))
    data = LabelledImages(
        torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
        labels,
        names,
        names,
        ("normal", "bacterial", "viral"),
        synthetic=True,
    )
    loops = {"fit": ours, "bare": bare_loop}
    models = {
        loop: build_model(ModelConfig(name=name), outputs=3, channels=1, seed=0) for loop in loops
    }
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for repeat in range(args.repeats + 1):
        order = list(loops) if repeat % 2 else list(loops)[::-1]
        for loop in order:
            started = CLOCKS[args.clock]()
            seen = loops[loop](models[loop], data, args)
            if repeat:
                speeds[loop].append(seen / (CLOCKS[args.clock]() - started))
    medians = {loop: statistics.median(values) for loop, values in speeds.items()}
    return {
        "model": name,
        "images_per_second": {loop: round(value, 1) for loop, value in medians.items()},
        "ratio": round(medians["fit"] / medians["bare"], 4),
        "all": {loop: [round(value, 1) for value in values] for loop, values in speeds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", choices=tuple(MODELS), nargs="+", default=["resnet18"])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: PyTorch's choice")
    parser.add_argument("--channels-last", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--augment", action=argparse.BooleanOptionalAction, default=True)
    clock = "processor: seconds of this process, for a busy machine without a GPU"
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help=clock)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    result = {
        "benchmark": "training_throughput",
        "settings": {key: value for key, value in vars(args).items() if key != "output"},
        "models": [measure(name, args) for name in args.model],
    }
    publish({**result, "machine": describe_machine()}, args.output)


if __name__ == "__main__":
    main()
