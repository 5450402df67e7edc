"""Splits and partitions by patient: stratified by class, the same on every machine.

A patient goes to one part with all images, and so do patients who share a picture, where the
manifest knows the digests. Within a class, patients are dealt in order of
decreasing size (a keyed hash breaks ties), each to the part that is furthest below its target:
Sainte-Laguë's divisor method, with patients of unequal weight. The result depends on patients,
labels and seed, not on the order of files nor on numpy's version (the Dirichlet draw apart).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from primia_flwr.config.experiment.data import PartitionConfig
from primia_flwr.data.manifest import Manifest, shared_patients
from primia_flwr.data.seeding import generator, shuffled
from primia_flwr.errors import ConfigError, DataError


def split_by_patient(
    manifest: Manifest, fractions: Mapping[str, float], *, seed: int
) -> dict[str, Manifest]:
    """Split into named parts that share no patient and hold `fractions` of every class.

    A class with at least as many patients as there are parts has a patient in each.

    Raises
    ------
    ConfigError
        If the fractions do not add up to 1 or one is not above 0.
    DataError
        If there are fewer patients than parts.
    """
    if abs(sum(fractions.values()) - 1) > 1e-9 or min(fractions.values()) <= 0:
        raise ConfigError(
            f"fractions={dict(fractions)}; expected positive numbers that add up to 1"
        )
    names = list(fractions)
    count = len(set(manifest.people()))
    if count < len(names):
        raise DataError(
            f"{manifest.root}: {count} patient(s) for {'/'.join(names)}; "
            "expected at least one for each: add patients or lower the number of parts"
        )
    shares = [[fractions[name] for name in names]] * len(manifest.strata)
    parts = _deal(manifest, shares, floor=1, key=("split", seed, *names))
    return {
        name: manifest.select(part) for name, part in zip(names, _fill_empty(parts), strict=True)
    }


def partition_over_sites(
    manifest: Manifest, cfg: PartitionConfig, *, num_sites: int, seed: int
) -> list[Manifest]:
    """Deal the patients of a manifest to `num_sites` sites.

    Every site has `cfg.min_patients` patients of every class, and two (one to train on, one to
    validate with) where there are enough.

    Raises
    ------
    ConfigError
        If `num_sites` or `cfg.shares` do not fit.
    DataError
        If a class has too few patients, a site would stay empty, or the manifest's sites are
        not `num_sites` or share a patient.
    """
    if num_sites < 1:
        raise ConfigError(f"num_sites={num_sites}; expected at least 1, e.g. 3")
    if cfg.kind == "manifest":
        return _as_the_manifest_says(manifest, num_sites)
    floor = _floor(manifest, cfg, num_sites)
    shares = _site_shares(len(manifest.strata), cfg, num_sites, seed)
    dealt = _deal(manifest, shares, floor=floor, key=("partition", seed, num_sites))
    parts = [manifest.select(part) for part in dealt]
    for index, part in enumerate(parts):
        if not part.samples:
            raise DataError(
                f"site {index + 1} of {num_sites} gets no patient; expected at least one: raise "
                f"data.partition.min_patients={cfg.min_patients} or alpha={cfg.alpha}"
            )
    return parts


def sites_of(manifest: Manifest) -> dict[str, Manifest]:
    """Group samples by the manifest's site column, in the order of the names.

    Raises
    ------
    DataError
        If a sample has no site, or a patient has two.
    """
    names = sorted({sample.site for sample in manifest.samples})
    if "" in names:
        path = next(sample.path for sample in manifest.samples if not sample.site)
        raise DataError(
            f"{path}: has no site in the manifest; expected one in each row with "
            "data.partition.kind=manifest"
        )
    sites = {
        name: manifest.with_samples([s for s in manifest.samples if s.site == name])
        for name in names
    }
    for patient, places in shared_patients(sites).items():
        raise DataError(
            f"patient {patient} is at the sites {' and '.join(places)}; expected each patient at "
            "one site: correct the manifest's site column"
        )
    return sites


def _as_the_manifest_says(manifest: Manifest, num_sites: int) -> list[Manifest]:
    sites = sites_of(manifest)
    if len(sites) != num_sites:
        raise DataError(
            f"the manifest names {len(sites)} site(s) ({', '.join(sites)}); expected {num_sites}, "
            "the number of sites of the federation: change one of the two"
        )
    return list(sites.values())


def _floor(manifest: Manifest, cfg: PartitionConfig, num_sites: int) -> int:
    """Patients of every class that every site gets."""
    patients = Counter(_named_by_person(manifest).patient_labels().values())
    present = [label for label, count in enumerate(manifest.label_counts()) if count]
    rarest = min(present, key=lambda label: patients[label])
    if patients[rarest] < num_sites * cfg.min_patients:
        raise DataError(
            f"class {manifest.strata[rarest]!r} has {patients[rarest]} patient(s); expected at "
            f"least {num_sites * cfg.min_patients}, {cfg.min_patients} for each of {num_sites} "
            "sites: use fewer sites or set data.partition.min_patients=0"
        )
    if cfg.min_patients == 0:
        return 0
    return max(cfg.min_patients, min(2, patients[rarest] // num_sites))


def _site_shares(
    num_labels: int, cfg: PartitionConfig, num_sites: int, seed: int
) -> list[list[float]]:
    """Share of every class (rows) for every site (columns); each row adds up to 1."""
    if cfg.kind == "iid":
        return [[1 / num_sites] * num_sites] * num_labels
    rng = generator("shares", cfg.kind, seed, num_sites)
    alphas = [cfg.alpha] * num_sites
    if cfg.kind == "dirichlet":
        return [[float(p) for p in rng.dirichlet(alphas)] for _ in range(num_labels)]
    if cfg.shares and len(cfg.shares) != num_sites:
        raise ConfigError(
            f"data.partition.shares has {len(cfg.shares)} entries; expected {num_sites}, one for "
            "each site"
        )
    sizes = cfg.shares or [float(p) for p in rng.dirichlet(alphas)]
    return [[size / sum(sizes) for size in sizes]] * num_labels


def _named_by_person(manifest: Manifest) -> Manifest:
    pairs = zip(manifest.samples, manifest.people(), strict=True)
    return manifest.with_samples([replace(sample, patient=person) for sample, person in pairs])


def _deal(
    manifest: Manifest, shares: Sequence[Sequence[float]], *, floor: int, key: tuple[object, ...]
) -> list[dict[int, str]]:
    """Deal people class by class; `shares`: (C, parts). Returns each part's images and people."""
    people = _named_by_person(manifest)
    sizes = Counter(sample.patient for sample in people.samples)
    labels = people.patient_labels()
    part_of: dict[str, int] = {}
    for label, row in enumerate(shares):
        patients = [patient for patient in labels if labels[patient] == label]
        order = shuffled(patients, *key, manifest.strata[label])
        order.sort(key=lambda patient: -sizes[patient])
        chosen = _deal_class([sizes[patient] for patient in order], row, floor)
        part_of.update(zip(order, chosen, strict=True))
    parts: list[dict[int, str]] = [{} for _ in shares[0]]
    for index, sample in enumerate(people.samples):
        parts[part_of[sample.patient]][index] = sample.patient
    return parts


def _deal_class(sizes: Sequence[int], shares: Sequence[float], floor: int) -> list[int]:
    """Part of every patient of one class; `sizes`: images of each, in dealing order."""
    targets = np.maximum(np.array(shares, dtype=np.float64), 1e-12) * max(sum(sizes), 1)
    filled = np.zeros(len(shares))
    dealt = np.zeros(len(shares), dtype=np.int64)
    floor = min(floor, len(sizes) // len(shares)) if len(sizes) >= len(shares) else floor
    chosen = []
    for position, size in enumerate(sizes):
        owed = np.maximum(floor - dealt, 0)
        quotient = (filled + size / 2) / targets
        if owed.sum() >= len(sizes) - position:
            quotient[owed == 0] = np.inf
        part = int(np.argmin(quotient))
        filled[part] += size
        dealt[part] += 1
        chosen.append(part)
    return chosen


def _fill_empty(parts: list[dict[int, str]]) -> list[dict[int, str]]:
    """Give an empty part one person of the part with the most people."""
    for part in parts:
        if part:
            continue
        giver = max(parts, key=lambda one: len(set(one.values())))
        person = min(giver.values())
        for index in [i for i, name in giver.items() if name == person]:
            part[index] = giver.pop(index)
    return parts
