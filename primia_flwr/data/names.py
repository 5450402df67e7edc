"""Names that a person would take for one: of patients and classes, however they are spelled.

Tables and headers come from several programs, which change case, white space, Unicode form and
leading zeros, and write 7 as 7.0. Two spellings of one patient are a leak between training and
test, and a budget spent twice; taking two patients for one is neither.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

NOBODY = "unknown"
"""The one patient of all images whose patient is a placeholder, such as ANONYMOUS or nan."""

_OWN = "image:"
_NUMBER = re.compile(r"0*(\d{1,40})(?:[.,]0{0,2})?")
_EXPONENT = re.compile(r"(\d)(?:[.,](\d{1,20}))?e\+?(\d{1,2})")
_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")
_MARKS = re.compile(r"[x]{3,}|[?\-_.*#/\\^]+")
_WORDS = """
    nan none null nil na n/a n.a. n.a #n/a #na <na> nat -nan undefined undef missing
    unknown unknownpatient patientunknown unk unbekannt inconnu desconocido sconosciuto
    anonymous anonymouspatient anonymousid anonym anonyme anonimo anonymized anonymised
    anonymizedpatient anonymisedpatient anonymisiert anon deidentified de-identified deid
    pseudonymized pseudonymised removed redacted deleted hidden confidential blank empty
    noid no-id noname notavailable notapplicable notknown notset notgiven default dummy
    patientid patient_id noneknown nopatient nopatientid #value! #ref! -1 -1.0
"""
_PLACEHOLDERS = frozenset(_WORDS.split())


def key_of(name: str) -> str:
    """Return what all spellings of a name share; empty for a name of white space alone."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    kept = unicodedata.normalize("NFKC", "".join(_plain(letter) for letter in folded))
    if found := _NUMBER.fullmatch(kept):
        return found[1].lstrip("0") or "0"
    if found := _EXPONENT.fullmatch(kept):
        digits, places = found[1] + (found[2] or "").rstrip("0"), int(found[3])
        if len(digits) <= places + 1:
            return digits.ljust(places + 1, "0").lstrip("0") or "0"
    return _ZEROS.sub("", kept)


def is_placeholder(name: str) -> bool:
    """Whether a patient's name says only that nobody is named: nan, None, ANONYMOUS, ???."""
    key = "".join(_plain(c) for c in unicodedata.normalize("NFKC", name).casefold())
    bare = key.strip("^[](){}'\"")
    return not bare or bare in _PLACEHOLDERS or bool(_MARKS.fullmatch(key))


def own_patient(path: str) -> str:
    """Name of the patient of an image about whose patient nothing is known."""
    return f"{_OWN}{path}"


def is_own(patient: str) -> bool:
    """Whether a patient is an image about whose patient nothing is known."""
    return patient.startswith(_OWN)


def spellings(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names by what their spellings share; each group sorted."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        groups[key_of(name)].add(name)
    return {key: sorted(group) for key, group in groups.items()}


def one_spelling(counts: Mapping[str, int]) -> dict[str, str]:
    """Return for every name the spelling that most use (the first in order on a tie)."""
    groups = spellings(counts).values()
    best = {group[0]: min(group, key=lambda name: (-counts[name], name)) for group in groups}
    return {name: best[group[0]] for group in groups for name in group}


def _plain(letter: str) -> str:
    """Drop white space and hidden characters; bring digits and dashes to one form."""
    kind = unicodedata.category(letter)
    if letter.isspace() or kind in ("Cc", "Cf"):
        return ""
    if kind == "Nd":
        return str(unicodedata.decimal(letter))
    return "-" if kind == "Pd" or letter == "\u2212" else letter
