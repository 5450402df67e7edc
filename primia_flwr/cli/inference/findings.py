"""What a clinician is told of each image, and on what it stands."""

from typing import TYPE_CHECKING, Any

from primia_flwr.config.rows import MODELS
from primia_flwr.tasks.masks.runs import to_runs

if TYPE_CHECKING:
    from torch import Tensor

    from primia_flwr.models.card import ModelCard

_NONE = "(none)"  # of the findings is called


def _called(card: "ModelCard", scores: "Tensor") -> tuple[str, list[float]]:
    """Return what is called, in words, and the probability of each class."""
    if card.several:
        probabilities: list[float] = scores.sigmoid().tolist()
        called = [c for c, p in zip(card.classes, probabilities, strict=True) if p >= 0.5]
        return " | ".join(called) or _NONE, probabilities
    probabilities = scores.softmax(dim=0).tolist()
    most = max(range(len(probabilities)), key=probabilities.__getitem__)
    return card.classes[most], probabilities


def finding(card: "ModelCard", scores: "Tensor | None") -> dict[str, Any]:
    """Return the columns that tell of a class; all empty where there are no scores.

    Of a model of several findings: each with its own probability, and those of at least 0.5. Of a
    model with outputs at each pixel: the mask as runs of classes, and the share of each.
    """
    classes = card.classes
    if MODELS[card.model.name].dense:
        return _mask(card, scores)
    if scores is None:
        return {"prediction": None, **dict.fromkeys(f"p_{c}" for c in classes), "scores": None}
    told, probabilities = _called(card, scores)
    return {
        "prediction": told,
        **{f"p_{c}": p for c, p in zip(classes, probabilities, strict=True)},
        "scores": scores.tolist(),
    }


def _mask(card: "ModelCard", scores: "Tensor | None") -> dict[str, Any]:
    """Return the called mask in one cell, and which share of its pixels each class has."""
    shares = [f"share_{name}" for name in card.classes]
    if scores is None:
        return {"prediction": None, **dict.fromkeys(shares), "scores": None}
    called = scores.argmax(dim=0)
    pixels = called.flatten().bincount(minlength=len(shares)).double() / called.numel()
    return {
        "prediction": to_runs(called.numpy()),
        **dict(zip(shares, pixels.tolist(), strict=True)),
        "scores": scores.tolist(),
    }


def summary(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what the last line of output tells; `ok` if no image that was asked about is without.

    `calibrated` and `audit` say on what the results stand.
    """
    keys = ("images", "seconds_per_image", "bytes_sent", "rounds")
    return {
        **{key: facts[key] for key in keys},
        "skipped": len(facts["skipped"]),
        "outside": facts["outside"],
        "implausible": facts["implausible"],
        "calibrated": facts["model"]["calibrated"],
        "audit": facts["audit"],
        "ok": facts["outside"] == facts["implausible"] == len(facts["skipped"]) == 0,
    }


def basis(calibrated: int, *, audit: bool) -> str:
    """Return on what the results stand, in a sentence for the clinician."""
    by_images = (
        f"by its owner's word the model is calibrated: encrypted as in the clear on {calibrated} "
        "images"
        if calibrated
        else "the model is NOT calibrated: nobody has shown that it computes rightly in encrypted "
        "form; ask its owner for primia inference calibrate"
    )
    audited = (
        "every comparison was audited"
        if audit
        else "no comparison was audited (audit=true has that done)"
    )
    return f"what these results stand on: {by_images}; {audited}"


def not_plausible(name: str, limit: float) -> str:
    """Return what is said of an image whose scores cannot be right."""
    from primia_flwr.inference.protocol.plausibility import limit_that_holds

    return (
        f"no diagnosis for {name}: its scores are beyond {limit_that_holds(limit):g}, where no "
        "score of this model can be; a number was cut wrongly by chance, or the image is of a kind "
        "that the model does not know; ask again for it alone, with fresh randomness; if that does "
        "not help, tell the model owner"
    )


def no_scores(name: str, compare_bits: int) -> str:
    """Return what is said of an image that an audit found outside."""
    return (
        f"no scores for {name}: the audit found a number of its batch outside the ring of "
        f"compare_bits={compare_bits} (or the parties do not agree on what they computed); if it "
        "does so again, tell the model owner that its bounds are not enough"
    )
