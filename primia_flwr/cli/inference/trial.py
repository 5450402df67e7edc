"""`primia inference trial`: the whole encrypted-inference service on this machine."""

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.config.inference import InferenceTrialArguments, check_installed
from primia_flwr.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    from torch import Tensor

    from primia_flwr.data.dataset import LabelledImages


def run(cfg: InferenceTrialArguments) -> dict[str, Any]:
    """Classify images encrypted and in the clear, and compare.

    Raises
    ------
    PrimiaError
        If there is no model, or the service fails.
    """
    check_installed(cfg.protocol)
    from primia_flwr.cli.inference.service import device_of

    device_of(cfg.device)  # refused here, before anything is trained or started
    console = Console(stderr=True, quiet=cfg.quiet, emoji=False)
    model = _model(cfg, console)
    with tempfile.TemporaryDirectory(prefix="primia-images-") as scratch:
        images = Path(cfg.data.root).expanduser().resolve() if cfg.data.root else Path(scratch)
        if not cfg.data.root:
            _write_own_test_images(model, images, cfg.images)
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        output = Path(cfg.output or model / "inference" / stamp).expanduser().resolve()
        result = _asked(cfg, console, model, images, output)
        compared = compare(model, images, output)
    facts = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    _show(console, compared, facts)
    (output / "comparison.json").write_text(json.dumps(compared, indent=1) + "\n")
    return {
        "images": result["images"],
        "agreement": compared["agreement"],
        "seconds_per_image": result["seconds_per_image"],
        "bytes_sent": result["bytes_sent"],
        "rounds": result["rounds"],
        **{name: result[name] for name in ("outside", "implausible", "calibrated", "audit")},
        "largest_logit_error": compared["largest_logit_error"],
        "bytes_preprocessing": facts["bytes_preprocessing"],
        "compare_bits": facts["model"]["compare_bits"],
        "synthetic": facts["model"]["synthetic"],
        "ok": result["ok"] and compared["precise"],
        "output": str(output),
    }


def _asked(
    cfg: InferenceTrialArguments, console: Console, model: Path, images: Path, output: Path
) -> dict[str, Any]:
    """Start the three parties, and return the last line of `primia infer`."""
    from primia_flwr.trials.service import UNLIMITED, ask, running_service

    device, audit = f"device={cfg.device}", f"audit={str(cfg.audit).lower()}"
    options = (f"prefetch={cfg.prefetch}", f"protocol={cfg.protocol}", device, audit)
    limits = (*UNLIMITED, f"max_batch={cfg.batch}", "max_sessions=1")
    of_owner = (*options, *limits, f"compare_bits={cfg.compare_bits}")
    with running_service(model, options=of_owner, provider_options=(device,)) as service:
        console.print(f"three processes on loopback, TLS, model {model}", markup=False)
        quiet = f"quiet={str(cfg.quiet).lower()}"
        return ask(service, images, output, *options, f"batch={cfg.batch}", quiet)


def _with_scores(facts: dict[str, Any], output: Path) -> list[dict[str, Any]]:
    rows = [row for row in facts["predictions"] if row["scores"] is not None]
    if not rows:
        raise ServiceError(
            f"no image has scores: {facts['outside']} have a number outside the ring of "
            f"compare_bits={facts['model']['compare_bits']}, {facts['implausible']} have scores "
            f"that cannot be right; run primia inference calibrate; see {output}"
        )
    return rows


def compare(model_dir: Path, images: Path, output: Path) -> dict[str, Any]:
    """Compare encrypted predictions with those of the same model in the clear.

    Images without scores are left out.

    Raises
    ------
    ServiceError
        If no image has scores.
    """
    import torch

    from primia_flwr.inference.lowering.precision import is_precise, margins_of, precision_of
    from primia_flwr.models.saved import load_model

    facts = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    model, card = load_model(model_dir, single=True)
    rows = _with_scores(facts, output)
    with torch.inference_mode():
        plain = torch.cat([model(_image(images, row["file"], card)) for row in rows]).double()
    found = torch.tensor([row["scores"] for row in rows], dtype=torch.float64)
    margins, other = margins_of(plain, found, several=card.several)
    if card.several:  # of an image the finding that is least clear
        margins, other = margins.amin(dim=1), other.any(dim=1)
    agreement = float((~other).double().mean())  # of images, or of their pixels
    masks = other.dim() == 3
    if masks:
        margins, other = margins.flatten(1).amin(dim=1), other.flatten(1).any(dim=1)
    images_of = zip(rows, margins.tolist(), other.tolist(), strict=True)
    differing = [
        {"file": row["file"], "margin": m, "encrypted": "a mask" if masks else row["prediction"]}
        for row, m, differs in images_of
        if differs
    ]
    precision = precision_of(plain, found, wrong_cuts=0.0, several=card.several)
    return {
        "images": len(rows),
        "agreement": agreement,
        "largest_logit_error": precision.largest_difference,
        "precise": is_precise(precision, len(rows)),
        "disagreements": differing,
    }


def _image(images: Path, name: str, card: Any) -> "Tensor":
    from primia_flwr.data.files.unlabelled import Unlabelled
    from primia_flwr.training.normalisation import Normalisation

    root = images if images.is_dir() else images.parent
    prepared = Unlabelled((), root, card.image_size, card.resize, card.channels, card.frames)
    return Normalisation(card.mean, card.std).apply(prepared.load(root / name)[None])


def _model(cfg: InferenceTrialArguments, console: Console) -> Path:
    """Return the model's folder: as given, or the last demo's, or that of a demo made now."""
    if cfg.model:
        folder = Path(cfg.model).expanduser().resolve()
        if not (folder / "model.json").is_file():
            raise ConfigError(
                f"model={cfg.model}; expected the folder of a finished run, e.g. model=outputs/a"
            )
        return folder
    runs = sorted(Path("outputs").glob("*/*-demo/model.json"))
    if runs:
        return runs[-1].parent.resolve()
    console.print("no demo's model in outputs/: training one (primia train experiment=demo)")
    from primia_flwr.cli.train.train import main as train

    if train(["experiment=demo"]):
        raise ConfigError("the demo failed; see its message above")
    return _model(cfg, console)


def _write_own_test_images(model: Path, folder: Path, count: int) -> None:
    """Write the first images of the run's own test set as PNG files."""
    from PIL import Image

    from primia_flwr.evaluation.explain.cases import picture_of
    from primia_flwr.models.card import CARD_FILE, read_card

    frames = read_card(model / CARD_FILE)[0].frames
    for index in range(min(count, len(test := _own_test(model)))):
        pixels = picture_of(test.images[index].numpy(), frames=frames)
        Image.fromarray(pixels).save(folder / f"{index:05d}.png")


def _own_test(model: Path) -> "LabelledImages":
    from primia_flwr.config.stored import read_config
    from primia_flwr.data.dataset import load_test

    path = model / "config.yaml"
    if not path.is_file():
        raise ConfigError(
            f"{path} is missing, so the model's own test images are unknown; expected data.root, "
            "e.g. data.root=scans"
        )
    experiment = read_config(path)
    return load_test(replace(experiment.data), seed=experiment.seed)


def _show(console: Console, compared: dict[str, Any], facts: dict[str, Any]) -> None:
    console.print(
        f"{compared['images']} images, encrypted and in the clear: the same class for "
        f"{compared['agreement']:.1%}, scores within {compared['largest_logit_error']:.5f}"
    )
    for row in compared["disagreements"]:
        console.print(f"  differs: {row['file']} (margin {row['margin']:.5f})", markup=False)
    if not compared["precise"]:
        console.print(
            "the model LOSES PRECISION in encrypted form: do not serve it; primia inference "
            "calibrate says by how much"
        )
    if not facts["model"]["calibrated"]:
        console.print(
            f"the model is NOT calibrated, so it was served in a ring of "
            f"{facts['model']['compare_bits']} bits; primia inference calibrate tells whether a "
            "smaller one, and fixed point at all, do for it"
        )


COMMAND = Command(
    words=("inference", "trial"),
    summary="run all parties of encrypted inference on this machine, and compare in the clear",
    examples=(
        "primia inference trial",
        "primia inference trial model=outputs/a data.root=chest_xray/test",
    ),
    config_name="commands/inference/trial",
    schema=InferenceTrialArguments,
    run=run,
    positional="model",
)
