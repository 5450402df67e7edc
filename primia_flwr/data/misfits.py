"""What does not belong among the other images, by their headers, and what leaves it out."""

import re
from collections import Counter
from collections.abc import Callable, Mapping

from primia_flwr.data.census import Census, Header
from primia_flwr.storage.printable import printable

_RADIOGRAPHS = frozenset({"CR", "DX", "RG", "DR"})
_FRONTAL = frozenset({"PA", "AP", "FRONTAL"})
_LATERAL = frozenset({"LL", "RL", "LAT", "LLAT", "RLAT", "LATERAL"})


def misfits(headers: Mapping[str, Header | None], census: Census) -> list[str]:
    """Sentences on what does not belong among the others, with the setting that leaves it out."""
    said = {path: header for path, header in headers.items() if header is not None}

    def of(fits: Callable[[Header], bool]) -> list[str]:
        return [path for path, header in said.items() if fits(header)]

    usual = _usual_modality(census)
    part = _usual_body_part(census)
    frontal = of(lambda header: _is_view(header.view, _FRONTAL))
    return [
        sentence
        for paths, what in (
            (of(lambda h: bool(usual) and h.modality not in usual), _other_modality(census, usual)),
            (
                of(lambda h: bool(frontal) and _is_lateral(h.view)),
                "lateral view(s) among frontal ones: data.select.view=[PA,AP] leaves them out",
            ),
            (
                of(lambda h: h.intent == "FOR PROCESSING"),
                "image(s) FOR PROCESSING, raw, not as radiologists see them: "
                "data.select.intent=[FOR PRESENTATION] leaves them out",
            ),
            (
                of(lambda h: h.burned_in == "YES"),
                "image(s) say that text is burned in, perhaps a patient's name: "
                "data.select.burned_in=drop leaves them out",
            ),
            (
                of(lambda h: bool(part) and h.body_part not in ("", part)),
                f"image(s) of another body part than {_shown(part)}, that of most: take them out",
            ),
            (
                of(lambda h: bool(h.sides)),
                f"image(s) have pixels that are not square ({_first_sides(said)}) and are shown as "
                "if they were: resample them, or take them out",
            ),
            ([p for twins in census.twins for p in twins], "image(s) share a SOP instance UID"),
        )
        if (sentence := _some(paths, what))
    ] + _shared_study(census)


def _some(paths: list[str], what: str) -> str:
    return f"{len(paths)} {what} (e.g. {printable(paths[0], limit=200)})" if paths else ""


def _first_sides(headers: Mapping[str, Header]) -> str:
    return printable(next((h.sides for h in headers.values() if h.sides), ""), limit=40)


def _shared_study(census: Census) -> list[str]:
    for patients in census.shared_studies.values():
        names = " and ".join(printable(name, limit=80) for name in patients[:2])
        return [
            f"{len(census.shared_studies)} study(ies) of several patients, e.g. of {names}: one "
            "patient under two names may be in training and test; correct the names"
        ]
    return []


def _usual_modality(census: Census) -> frozenset[str]:
    """Return the modalities of most images that name one, all kinds of radiographs together."""
    named = Counter({name: count for name, count in census.modality.items() if name})
    if not named:
        return frozenset()
    groups = [_RADIOGRAPHS, *(frozenset({name}) for name in sorted(named))]
    return max(groups, key=lambda group: sum(named[name] for name in group)) | {""}


def _usual_body_part(census: Census) -> str:
    """Return the body part of at least two thirds of the images that name one."""
    named = {name: count for name, count in census.body_part.items() if name}
    most = max(named, key=lambda name: named[name], default="")
    return most if most and 3 * named[most] >= 2 * sum(named.values()) else ""


def _other_modality(census: Census, usual: frozenset[str]) -> str:
    others = sorted(set(census.modality) - usual)
    wanted = sorted(name for name in set(census.modality) & usual if name)
    return (
        f"image(s) of another modality ({', '.join(map(_shown, others))}) among "
        f"{', '.join(map(_shown, wanted))}: data.select.modality=[{','.join(map(_shown, wanted))}] "
        "leaves them out"
    )


def _shown(text: str) -> str:
    return printable(text, limit=40)


def _is_lateral(view: str) -> bool:
    return _is_view(view, _LATERAL) and not _is_view(view, _FRONTAL)


def _is_view(view: str, names: frozenset[str]) -> bool:
    return not names.isdisjoint(re.findall("[A-Z]+", view))
