"""Encrypted sequences of radiographs: does time help, is the class the same, what does it cost.

Draws sequences of 5 frames of 32 x 32 pixels, in which the finding grows, and trains with the same
recipe `model=sequence` with `temporal=mean` and `conv` and, for comparison, its network on one
frame alone, for each of the five. Missed diagnoses are counted on test patients where every model
lets the same share of healthy sequences pass; the best single frame is the best on these very test
sequences, which is in its favour. Intervals are of a paired bootstrap over patients.

The first seed's two models are then calibrated and served by `primia inference trial`, three
processes over TLS on this machine, for 500 test sequences.

    python -m primia_bench.inference.sequences --output benchmarks/results/inference_sequences.json
    python -m primia_bench.inference.sequences --votes \
        --output benchmarks/results/inference_sequences_votes.json
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from primia_bench.inference.agreement import run_trial, summarise
from primia_bench.machine import describe_machine, publish, save
from primia_flwr.cli.main import run as run_command
from primia_flwr.config.experiment.data import DataConfig, SyntheticConfig
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.data.dataset import LabelledImages, SiteData, load_pooled, load_test
from primia_flwr.evaluation.explain.cases import picture_of
from primia_flwr.models.architectures.sequence import SequenceNet
from primia_flwr.models.card import ModelCard
from primia_flwr.models.saved import save_model
from primia_flwr.runs.metadata import read_json
from primia_flwr.training.normalisation import Normalisation

FRAMES, SIZE, TEMPORAL = 5, 32, ("mean", "conv")
CLASSES = ("normal", "pneumonia")
BATCH, RATE = 32, 3e-3
RESAMPLES = 2000

Scores = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def missed(scores: Scores, ill: Flags, specificity: float) -> int:
    """Return how many of the ill score no higher than that share of the healthy does."""
    healthy = np.sort(scores[~ill])
    threshold = healthy[int(np.ceil(specificity * len(healthy) - 1e-9)) - 1]
    return int((scores[ill] <= threshold).sum())


def fewer_missed(
    ours: list[Scores], theirs: list[Scores], ill: Flags, patients: list[str], specificity: float
) -> dict[str, Any]:
    """Return the difference of missed shares, ours less theirs, with its 95 % interval.

    `ours`, `theirs`: scores of the same sequences, one array a seed.
    """

    def share(rows: npt.NDArray[np.int64]) -> float:
        picked = ill[rows]
        counts = [missed(a[rows], picked, specificity) - missed(b[rows], picked, specificity)
                  for a, b in zip(ours, theirs, strict=True)]  # fmt: skip
        return float(np.mean(counts)) / int(picked.sum())

    rng, drawn = np.random.default_rng(0), []
    groups = _rows_of_patients(ill, patients)
    for _ in range(RESAMPLES):
        picked = [group[i] for group in groups for i in rng.integers(0, len(group), len(group))]
        drawn.append(share(np.concatenate(picked)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = share(np.arange(len(ill)))
    return {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _rows_of_patients(ill: Flags, patients: list[str]) -> list[list[npt.NDArray[np.int64]]]:
    """Return each patient's rows, those of the healthy and those of the ill."""
    names = np.array(patients)
    return [
        [np.flatnonzero(names == name) for name in np.unique(names[ill == kind])]
        for kind in (False, True)
    ]


def trained(images: Tensor, ill: Tensor, temporal: str, steps: int, seed: int) -> SequenceNet:
    """Train on normalised sequences (N, T, S, S), with flips that all frames share."""
    torch.manual_seed(seed)
    model = SequenceNet(ModelConfig(name="sequence", temporal=temporal), 2, images.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(images), (BATCH,), generator=generator)
        turned = torch.rand(BATCH, 1, 1, 1, generator=generator) < 0.5
        batch = torch.where(turned, images[rows].flip(3), images[rows])
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(batch), ill[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def scored(model: SequenceNet, images: Tensor) -> Scores:
    """Return the logit of illness of each sequence."""
    logits = torch.cat([model(part) for part in torch.split(images, 128)]).double().numpy()
    return np.asarray(logits[:, 1] - logits[:, 0])


def is_ill(data: LabelledImages) -> Tensor:
    """Return (N,) int64: 0 of class normal."""
    return (data.labels != data.classes.index("normal")).long()


def served(
    model: SequenceNet, temporal: str, pixels: Normalisation, tests: list[Path], batch: int
) -> dict[str, Any]:
    """Calibrate a model and have it classify a folder of sequences, encrypted.

    `tests`: the folders of validation and of test sequences.
    """
    folder = tests[0].parent / temporal
    card = ModelCard(
        model=ModelConfig(name="sequence", temporal=temporal), classes=CLASSES, channels=FRAMES,
        image_size=SIZE, resize="squash", mean=pixels.mean, std=pixels.std,
        config_hash="0" * 16, round=1, synthetic=True,
    )  # fmt: skip
    save_model(folder, model, card)
    if run_command(["inference", "calibrate", f"model={folder}", f"data.root={tests[0]}"]):
        raise SystemExit("primia inference calibrate refused the model")
    images = len(list(tests[1].iterdir()))
    trial = run_trial(folder, images, [f"data.root={tests[1]}", f"batch={batch}"])
    facts, found = read_json(trial / "predictions.json"), summarise(folder, trial)
    told = {row["file"]: row["scores"] for row in facts["predictions"]}
    return {
        "sequences": found["images"],
        "same_class": found["images"] - len(found["disagreements"]),
        "largest_logit_error": found["largest_logit_error"]["value"],
        "compare_bits": facts["model"]["compare_bits"],
        "one_way_delays": found["one_way_delays"],
        "sequences_a_batch": batch,
        "mb_of_a_sequence": {
            "sent_online": round(found["bytes_sent_per_image"] / 1e6, 3),
            "received_online": round(found["bytes_received_per_image"] / 1e6, 3),
            "dealt_to_data_owner": round(facts["bytes_preprocessing"] / images / 1e6, 3),
        },
        "seconds_of_a_sequence_on_a_busy_machine": {
            "online_median": found["online_seconds"]["median"],
        },
        "scores": [told[name] for name in sorted(told)],
    }


def write_pictures(data: LabelledImages, count: int, folder: Path) -> Path:
    """Write sequences as pictures of frames side by side, as a clinic may have them."""
    folder.mkdir()
    for row in range(min(count, len(data))):
        pixels = picture_of(data.images[row].numpy(), frames=FRAMES)
        Image.fromarray(pixels).save(folder / f"{row:05d}.png")
    return folder


def arms() -> dict[str, tuple[slice, str]]:
    """Return what is trained: which frames, and how time counts."""
    one = {f"frame_{t + 1}": (slice(t, t + 1), "mean") for t in range(FRAMES)}
    return {**{name: (slice(0, FRAMES), name) for name in TEMPORAL}, **one}


def compared(
    scores: dict[str, list[Scores]], ill: Flags, patients: list[str], specificity: float
) -> dict[str, Any]:
    """Return each arm's missed diagnoses, and what time spares against the best single frame."""
    counts = {
        name: [missed(one, ill, specificity) for one in rows] for name, rows in scores.items()
    }
    rows: dict[str, Any] = {
        name: {
            "missed": counts[name],
            "roc_auc": [round(float(roc_auc_score(ill, one)), 4) for one in scores[name]],
        }
        for name in scores
    }
    best = min((name for name in scores if name.startswith("frame")), key=lambda n: sum(counts[n]))
    for name in set(TEMPORAL) & rows.keys():
        rows[name]["missed_share_minus_that_of_best_frame"] = fewer_missed(
            scores[name], scores[best], ill, patients, specificity
        )
    return {"best_single_frame": best, "rows": rows}


def drawn(
    args: argparse.Namespace, scratch: Path
) -> tuple[SiteData, LabelledImages, Normalisation]:
    """Return sequences to train on, those of other patients for tests, and the pixels' scale."""
    cfg = DataConfig(
        frames=FRAMES, image_size=SIZE, cache_dir=args.cache or str(scratch / "cache"),
        synthetic=SyntheticConfig(patients=args.patients),
    )  # fmt: skip
    pooled, test = load_pooled(cfg, seed=0, num_sites=1), load_test(cfg, seed=0)
    raw = pooled.train.images.float() / 255
    mean, std = raw.mean((0, 2, 3)).tolist(), raw.std((0, 2, 3)).tolist()
    test = test.select(range(min(args.sequences, len(test))))
    return pooled, test, Normalisation(tuple(mean), tuple(std))


def votes(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Return what `mean` misses, and what each frame's own vote in it does.

    The network of a frame has then seen all frames of all sequences, as that of the mean has.
    """
    pooled, test, pixels = drawn(args, scratch)
    images, tests = pixels.apply(pooled.train.images), pixels.apply(test.images)
    ill = is_ill(test).numpy().astype(bool)
    names = ("mean", *(f"frame_{t + 1}" for t in range(FRAMES)))
    scores: dict[str, list[Scores]] = {name: [] for name in names}
    for seed in range(args.seeds):
        model = trained(images, is_ill(pooled.train), "mean", args.steps, seed)
        single = SequenceNet(ModelConfig(name="sequence"), 2, 1).eval()
        single.load_state_dict(model.state_dict())
        scores["mean"].append(scored(model, tests))
        for t in range(FRAMES):
            scores[f"frame_{t + 1}"].append(scored(single, tests[:, t : t + 1]))
    return {
        "benchmark": "inference_sequences_votes",
        "synthetic": True,
        **compared(scores, ill, list(test.patients), args.specificity),
        "machine": describe_machine(),
    }


def run(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Train, count, serve; written after each part."""
    pooled, test, pixels = drawn(args, scratch)
    images, tests = pixels.apply(pooled.train.images), pixels.apply(test.images)
    ill = is_ill(test).numpy().astype(bool)
    scores: dict[str, list[Scores]] = {name: [] for name in arms()}
    models: dict[str, SequenceNet] = {}
    for seed in range(args.seeds):
        for name, (frames, temporal) in arms().items():
            model = trained(images[:, frames], is_ill(pooled.train), temporal, args.steps, seed)
            models.setdefault(name, model)
            scores[name].append(scored(model, tests[:, frames]))
            print(f"seed {seed}, {name}: {missed(scores[name][-1], ill, args.specificity)} missed")
    result: dict[str, Any] = {
        "benchmark": "inference_sequences",
        "synthetic": True,
        "settings": {"frames": FRAMES, "pixels": SIZE, "steps": args.steps, "batch": BATCH,
                     "seeds": args.seeds, "specificity": args.specificity},
        "sequences": {"training": len(images), "test": len(test), "ill": int(ill.sum()),
                      "patients_of_test": len(set(test.patients))},
        **compared(scores, ill, list(test.patients), args.specificity),
        "encrypted": {},
        "machine": describe_machine(),
    }  # fmt: skip
    save(result, args.output)
    folders = [write_pictures(pooled.val, 200, scratch / "validation"),
               write_pictures(test, len(test), scratch / "test")]  # fmt: skip
    for name in TEMPORAL:
        row = served(models[name], name, pixels, folders, args.batch)
        found = np.array(row.pop("scores"))
        row["missed"] = missed(found[:, 1] - found[:, 0], ill, args.specificity)
        row["missed_in_the_clear"] = result["rows"][name]["missed"][0]
        result["encrypted"][name] = row
        save(result, args.output)
    return result


def table(result: dict[str, Any]) -> str:
    """Return what the page shows of a result, as Markdown."""
    rows, ill = result["rows"], result["sequences"]["ill"]
    head = f"missed of {ill}, seeds {', '.join(map(str, range(result['settings']['seeds'])))}"
    lines = [f"| what is read | {head} | ROC-AUC | missed share, less that of the best frame |"]
    lines.append("| --- | --- | --- | --- |")
    for name, row in rows.items():
        less = row.get("missed_share_minus_that_of_best_frame")
        shown = f"{less['value']:+.3f} ({less['low']:+.3f} to {less['high']:+.3f})" if less else ""
        read = f"`temporal={name}`" if name in TEMPORAL else name.replace("_", " ") + " alone"
        areas = ", ".join(f"{area:.3f}" for area in row["roc_auc"])
        lines.append(f"| {read} | {', '.join(map(str, row['missed']))} | {areas} | {shown} |")
    lines += ["", "| encrypted | `mean` | `conv` |", "| --- | --- | --- |"]
    for what, of in _SHOWN.items():
        cells = [of(result["encrypted"][name]) for name in TEMPORAL]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


_SHOWN: dict[str, Callable[[dict[str, Any]], str]] = {
    "the same class as in the clear": lambda row: f"{row['same_class']} of {row['sequences']}",
    "largest difference of a score": lambda row: f"{row['largest_logit_error']:.5f}",
    "missed, encrypted and in the clear": (
        lambda row: f"{row['missed']}, {row['missed_in_the_clear']}"
    ),
    "ring, bits": lambda row: str(row["compare_bits"]),
    "one-way delays": lambda row: str(row["one_way_delays"]),
    "MB a sequence: sent, received online": lambda row: ", ".join(
        f"{row['mb_of_a_sequence'][way]:.2f}" for way in ("sent_online", "received_online")
    ),
    "MB a sequence dealt to the data owner": (
        lambda row: f"{row['mb_of_a_sequence']['dealt_to_data_owner']:.2f}"
    ),
    "seconds a sequence online, median, in batches of 10, busy machine": (
        lambda row: f"{row['seconds_of_a_sequence_on_a_busy_machine']['online_median']:.2f}"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--patients", type=int, default=1600, help="of all, a fifth for tests")
    parser.add_argument("--sequences", type=int, default=500, help="of test patients")
    parser.add_argument("--steps", type=int, default=400, help="of each training")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--specificity", type=float, default=0.9)
    parser.add_argument("--batch", type=int, default=10, help="sequences that are served at once")
    parser.add_argument("--votes", action="store_true", help="each frame's vote in the mean alone")
    parser.add_argument("--cache", default="", help="folder that keeps what is drawn")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="primia-sequences-") as folder:
        work = votes if args.votes else run
        publish(work(args, Path(folder)), args.output)


if __name__ == "__main__":
    main()
