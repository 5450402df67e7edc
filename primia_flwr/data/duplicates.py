"""Identical images: where the same picture stands twice, and what that spoils."""

from collections.abc import Sequence

from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.storage.printable import printable

_Group = Sequence[Sample]


def duplicate_warnings(manifest: Manifest, groups: Sequence[Sequence[str]]) -> list[str]:
    """Sentences on groups of paths that show the same pixels."""
    sample_of = {sample.path: sample for sample in manifest.samples}
    found = [[sample_of[path] for path in group] for group in groups]
    tests = sum(sample.split == "test" for sample in manifest.samples)
    both = [group for group in found if _in_test(group) and not all(map(_is_test, group))]
    shared = sum(_in_test(group) for group in both)
    return [
        sentence
        for sentence in (
            _told(found, f"{len(found)} group(s) of identical images"),
            _told(
                both,
                f"{shared} of {tests} test image(s) are in train or val, too, identical: the test "
                "is then too good; take them out",
            ),
            _several(
                found, "label", "group(s) of identical images with different labels: correct them"
            ),
            _several(
                found,
                "site",
                "group(s) of identical images at several sites: somebody may be a patient of both",
            ),
            _several(
                [group for group in found if group not in both],
                "patient",
                "group(s) of identical images of several patients, who stay in one part; a private "
                "run counts them as one only where the files are the same: correct the names",
            ),
        )
        if sentence
    ]


def _several(groups: Sequence[_Group], attribute: str, what: str) -> str:
    wrong = [group for group in groups if len({getattr(s, attribute) for s in group}) > 1]
    return _told(wrong, f"{len(wrong)} {what}")


def _told(groups: Sequence[_Group], what: str) -> str:
    if not groups:
        return ""
    first = " = ".join(printable(sample.path, limit=120) for sample in groups[0][:2])
    return f"{what} (e.g. {first})"


def _is_test(sample: Sample) -> bool:
    return sample.split == "test"


def _in_test(group: _Group) -> int:
    return sum(map(_is_test, group))
