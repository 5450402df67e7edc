"""A folder of images to one in which nothing names a patient, whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.deidentification.copies import bare_copy
from primia_flwr.data.deidentification.masks import SUFFIX as MASK_SUFFIX
from primia_flwr.data.deidentification.masks import bare_mask
from primia_flwr.data.deidentification.places import Place, Plan, manifest_of, plan
from primia_flwr.data.files.store import in_parallel
from primia_flwr.data.manifest import Manifest
from primia_flwr.data.pseudonyms import Pseudonyms, private_folder
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.atomic import PRIVATE, atomic_folder, write_atomic, writing

FLAG, LEAVE_OUT = "flag", "leave_out"
_REMEDY = "expected a writable folder with free space; give another one as output_dir=<folder>"


@dataclass(frozen=True)
class _Copied:
    """What became of one image: its copy's path, or a problem, and what was removed of it.

    `mask`: the path of its mask's copy, where it has one: pairs stay pairs. `burned_in` says why
    somebody should look for text in its pixels.
    """

    place: Place
    path: str = ""
    problem: str = ""
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    burned_in: str = ""
    checked: bool = False
    mask: str = ""


@dataclass
class Outcome:
    """What became of all images, and of the files that are none (by suffix)."""

    root: Path
    copied: list[_Copied] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    no_images: dict[str, int] = field(default_factory=dict)

    @property
    def done(self) -> list[_Copied]:
        """Those that were copied."""
        return [one for one in self.copied if not one.problem]

    @property
    def burned_in(self) -> dict[str, str]:
        """Copies, by path, in whose pixels somebody should look for text."""
        return {one.path: one.burned_in for one in self.done if one.burned_in}

    @property
    def unchecked(self) -> int:
        """Copies whose originals could not say whether text is burned in."""
        return sum(not one.checked for one in self.done)


def check_target(root: str, output: str) -> Path:
    """Return the folder for the copies, absolute.

    Raises
    ------
    ConfigError
        If it is empty, is there already, or lies in the folder of the originals or around it.
    """
    if not output:
        raise ConfigError("output_dir is empty; expected a new folder, e.g. output_dir=shared")
    target, source = Path(output).expanduser().resolve(), Path(root).expanduser().resolve()
    inside = target == source or source in target.parents or target in source.parents
    if root and inside:
        raise ConfigError(
            f"output_dir={output} lies in data.root={root} or around it; expected a folder beside "
            "it: originals are never written to"
        )
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(f"output_dir={output} exists; expected a new folder: nothing is replaced")
    return target


def deidentify(
    cfg: DataConfig,
    output: str,
    pseudonyms: Pseudonyms,
    *,
    seed: int,
    burned_in: str = FLAG,
    dry_run: bool = False,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Outcome:
    """Copy every image of the data without what may name a person.

    Parameters
    ----------
    cfg : DataConfig
        Where the originals are; they are only read.
    output : str
        The new folder, for its owner only; made at the end, with everything in it.
    pseudonyms : Pseudonyms
        Of the site.
    seed : int
        Of the layout.
    burned_in : str
        `flag` or `leave_out` images in whose pixels there may be text.
    dry_run : bool
        Do all of it and write nothing.
    tell : callable
        Is told how many of how many images are done.

    Raises
    ------
    ConfigError, DataError
        If nothing can be copied, or the copies cannot be written; then there are none.
    """
    planned = plan(cfg, pseudonyms, seed=seed)
    target = check_target(str(planned.root), output)
    outcome = Outcome(planned.root, [], planned.left_out, planned.no_images)
    with _scratch(cfg) as scratch, writing(target, error=DataError, remedy=_REMEDY):
        if dry_run:
            _copy_all(planned, None, scratch, pseudonyms, cfg, burned_in, outcome, tell)
            return outcome
        with atomic_folder(target, mode=0o700) as draft:
            _copy_all(planned, draft, scratch, pseudonyms, cfg, burned_in, outcome, tell)
            if not outcome.done:
                raise DataError(
                    f"data.root={planned.root}: none of {len(planned.places)} images can be "
                    f"copied; the first: {outcome.copied[0].problem}"
                )
            if cfg.manifest or planned.data.several:
                _write_manifest(draft, outcome, planned.data)
    return outcome


@contextlib.contextmanager
def _scratch(cfg: DataConfig) -> Iterator[Path]:
    """Give a private folder for copies that are being checked, in the private one of the site."""
    folder = private_folder(cfg.cache_dir)
    with tempfile.TemporaryDirectory(prefix=".check-", dir=folder) as scratch:
        yield Path(scratch)


def _copy_all(
    planned: Plan,
    draft: Path | None,
    scratch: Path,
    pseudonyms: Pseudonyms,
    cfg: DataConfig,
    burned_in: str,
    outcome: Outcome,
    tell: Callable[[int, int], None],
) -> None:
    def copy(place: Place) -> _Copied:
        source = planned.root / place.source
        try:
            bare = bare_copy(source, scratch, place.patient, pseudonyms)
            mask = bare_mask(planned.data, place.source, place.mask) if place.mask else b""
        except DataError as error:
            return _Copied(place, problem=str(error))
        if bare.burned_in and burned_in == LEAVE_OUT:
            return _Copied(place, problem=f"{source}: {bare.burned_in}; burned_in=flag copies it")
        path = place.target + bare.suffix
        partner = place.mask_target + MASK_SUFFIX if place.mask else ""
        if draft is not None:
            _write(draft, path, bare.content)
            if partner:
                _write(draft, partner, mask)
        checked = bare.suffix == ".dcm" and not bare.burned_in
        return _Copied(
            place, path, "", bare.removed, bare.replaced, bare.burned_in, checked, partner
        )

    for one in in_parallel(copy, planned.places, workers=cfg.workers):
        outcome.copied.append(one)
        tell(len(outcome.copied), len(planned.places))


def _write(draft: Path, path: str, content: bytes) -> None:
    folder = draft
    for part in Path(path).parts[:-1]:
        folder = folder / part
        folder.mkdir(mode=0o700, exist_ok=True)
    write_atomic(draft / path, content, mode=PRIVATE)


def _write_manifest(draft: Path, outcome: Outcome, data: Manifest) -> None:
    copies = ((one.place, one.path, one.mask) for one in outcome.done)
    found = manifest_of(copies, data, draft)
    found.write_csv(draft / "manifest.csv")
    (draft / "manifest.csv").chmod(PRIVATE)
