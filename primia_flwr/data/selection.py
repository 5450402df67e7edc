"""Which images are taken, by what their DICOM headers say (`data.select`)."""

from collections import Counter
from collections.abc import Collection

from primia_flwr.config.experiment.data import SelectConfig
from primia_flwr.data.census import Header, read_header
from primia_flwr.data.manifest import Manifest
from primia_flwr.errors import DataError
from primia_flwr.storage.printable import printable

_NOTHING = Header()
_KEYS = ("modality", "view", "intent")


def selected(manifest: Manifest, cfg: SelectConfig) -> Manifest:
    """Keep the images that `data.select` takes, and note how many are left out, and why.

    Raises
    ------
    DataError
        If none remains, or text is burned into one and `burned_in` is `refuse`.
    """
    wanted = {key: _values(getattr(cfg, key)) for key in _KEYS if getattr(cfg, key)}
    if not wanted and cfg.burned_in == "keep":
        return manifest
    reasons = [
        _reason(read_header(manifest.root / s.path) or _NOTHING, wanted, cfg.burned_in)
        for s in manifest.samples
    ]
    pairs = list(zip(manifest.samples, reasons, strict=True))
    _check_burned_in(manifest, [s.path for s, why in pairs if why == "burned-in text"], cfg)
    kept = [sample for sample, why in pairs if not why]
    counts = Counter(why for why in reasons if why)
    said = ", ".join(f"{n} {why}" for why, n in sorted(counts.items()))
    if not kept:
        raise DataError(
            f"{manifest.root}: data.select leaves out all {len(manifest)} image(s) ({said:.300}); "
            "expected some to remain: see primia data check without it"
        )
    note = f"data.select leaves out {counts.total()} image(s): {said}" if counts else ""
    return manifest.with_samples(kept).noting(note).leaving(counts)


def _values(texts: Collection[str]) -> frozenset[str]:
    return frozenset(" ".join(text.split()).upper() for text in texts)


def _reason(header: Header, wanted: dict[str, frozenset[str]], burned_in: str) -> str:
    """Why an image is not taken; nothing if it is."""
    for key, values in wanted.items():
        if (said := " ".join(getattr(header, key).split())) not in values:
            return f"{key} {printable(said, limit=40) or 'not said'}"
    return "burned-in text" if burned_in != "keep" and header.burned_in == "YES" else ""


def _check_burned_in(manifest: Manifest, paths: list[str], cfg: SelectConfig) -> None:
    if paths and cfg.burned_in == "refuse":
        raise DataError(
            f"{manifest.root}: {len(paths)} image(s) say that text is burned in, e.g. "
            f"{printable(paths[0], limit=200)}; expected none with data.select.burned_in=refuse: "
            "take them out, or set it to drop"
        )
