from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.config.experiment.data import PartitionConfig
from primia_flwr.data.manifest import Manifest, Sample, shared_patients
from primia_flwr.data.seeding import generator, shuffled
from primia_flwr.data.split.partition import partition_over_sites, split_by_patient
from primia_flwr.errors import ConfigError, DataError

MakeManifest = Callable[..., Manifest]


@st.composite
def manifests(draw: st.DrawFn, *, patients_per_class: int = 1) -> Manifest:
    sizes = draw(
        st.lists(
            st.lists(st.integers(1, 6), min_size=patients_per_class, max_size=40),
            min_size=2,
            max_size=4,
        )
    )
    samples = [
        Sample(f"c{label}/p{number}/{image}.png", label, f"c{label}p{number}")
        for label, row in enumerate(sizes)
        for number, size in enumerate(row)
        for image in range(size)
    ]
    return Manifest(Path("/x"), tuple(f"c{k}" for k in range(len(sizes))), tuple(samples))


def assert_parts_of(whole: Manifest, parts: list[Manifest]) -> None:
    """No patient in two parts, no image lost or doubled."""
    assert shared_patients({str(i): part for i, part in enumerate(parts)}) == {}
    together = [sample for part in parts for sample in part.samples]
    assert Counter(together) == Counter(whole.samples)


@given(manifests(), st.integers(0, 2**32 - 1), st.floats(0.05, 0.6))
def test_splits_keep_patients_together_and_lose_nothing(
    manifest: Manifest, seed: int, share: float
) -> None:
    parts = split_by_patient(manifest, {"train": 1 - share, "test": share}, seed=seed)
    assert_parts_of(manifest, list(parts.values()))
    assert all(len(part) for part in parts.values())


@given(manifests(patients_per_class=6), st.integers(0, 1000), st.floats(0.1, 0.5))
def test_splits_are_stratified(manifest: Manifest, seed: int, share: float) -> None:
    test = split_by_patient(manifest, {"train": 1 - share, "test": share}, seed=seed)["test"]
    largest = max(Counter(sample.patient for sample in manifest.samples).values())
    for all_images, test_images in zip(manifest.label_counts(), test.label_counts(), strict=True):
        assert test_images > 0
        assert abs(test_images - share * all_images) <= largest


KINDS = st.builds(
    PartitionConfig,
    kind=st.sampled_from(["iid", "dirichlet", "quantity"]),
    alpha=st.floats(0.05, 100),
    min_patients=st.just(1),
)


@given(manifests(patients_per_class=5), KINDS, st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_partitions_keep_patients_together_and_every_class_everywhere(
    manifest: Manifest, cfg: PartitionConfig, num_sites: int, seed: int
) -> None:
    sites = partition_over_sites(manifest, cfg, num_sites=num_sites, seed=seed)
    assert len(sites) == num_sites
    assert_parts_of(manifest, sites)
    assert all((site.label_counts() > 0).all() for site in sites)


@given(manifests(patients_per_class=3), st.integers(0, 2**32 - 1), st.randoms())
def test_the_order_of_files_does_not_matter(
    manifest: Manifest, seed: int, shuffle: random.Random
) -> None:
    mixed = list(manifest.samples)
    shuffle.shuffle(mixed)
    cfg = PartitionConfig(kind="dirichlet", alpha=0.5)
    first = partition_over_sites(manifest, cfg, num_sites=3, seed=seed)
    second = partition_over_sites(manifest.with_samples(mixed), cfg, num_sites=3, seed=seed)
    assert [set(site.samples) for site in first] == [set(site.samples) for site in second]


def test_the_order_of_classes_does_not_matter(make_manifest: MakeManifest) -> None:
    manifest = make_manifest([(f"p{i}", i % 3, 1 + i % 2) for i in range(60)])
    turned = Manifest(
        manifest.root,
        manifest.classes[::-1],
        tuple(replace(s, label=2 - s.label) for s in manifest.samples),
    )
    first, second = (
        split_by_patient(m, {"a": 0.5, "b": 0.5}, seed=3)["a"].patients()
        for m in (manifest, turned)
    )
    assert first == second


def test_same_seed_same_partition_other_seed_another(make_manifest: MakeManifest) -> None:
    manifest = make_manifest([(f"p{i}", i % 3, 1) for i in range(300)])
    cfg = PartitionConfig()
    first, again, other = (
        partition_over_sites(manifest, cfg, num_sites=3, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_iid_is_even(make_manifest: MakeManifest) -> None:
    manifest = make_manifest([(f"p{i}", i % 3, 1) for i in range(300)])
    sites = partition_over_sites(manifest, PartitionConfig(), num_sites=4, seed=0)
    assert [site.label_counts().tolist() for site in sites] == [[25, 25, 25]] * 4


def test_quantity_skew_by_shares_keeps_the_class_mixture(make_manifest: MakeManifest) -> None:
    manifest = make_manifest([(f"p{i}", i % 2, 1) for i in range(200)], classes=2)
    cfg = PartitionConfig(kind="quantity", shares=[5, 3, 2])
    sites = partition_over_sites(manifest, cfg, num_sites=3, seed=0)
    assert [site.label_counts().tolist() for site in sites] == [[50, 50], [30, 30], [20, 20]]


def test_dirichlet_skew_grows_as_alpha_falls(make_manifest: MakeManifest) -> None:
    manifest = make_manifest([(f"p{i}", i % 3, 1) for i in range(900)])

    def unevenness(alpha: float) -> float:
        cfg = PartitionConfig(kind="dirichlet", alpha=alpha)
        spread = []
        for seed in range(10):
            sites = partition_over_sites(manifest, cfg, num_sites=3, seed=seed)
            counts = np.array([site.label_counts() for site in sites])
            spread.append((counts / counts.sum(axis=0)).std())
        return float(np.mean(spread))

    # standard deviation of a Dirichlet(a) share of three: sqrt(2/9 / (3a + 1))
    assert unevenness(0.1) > 0.25 > unevenness(1.0) > 0.12 > unevenness(1000) < 0.02


def test_sizes_of_patients_are_dealt_evenly(make_manifest: MakeManifest) -> None:
    manifest = make_manifest([(f"p{i}", 0, 10 if i < 20 else 1) for i in range(120)], classes=1)
    test = split_by_patient(manifest, {"train": 0.75, "test": 0.25}, seed=0)["test"]
    sizes = Counter(Counter(sample.patient for sample in test.samples).values())
    assert sizes == {10: 5, 1: 25}


def test_too_few_patients_of_a_class(make_manifest: MakeManifest) -> None:
    manifest = make_manifest([("a", 0, 5), ("b", 0, 1), ("c", 1, 9), ("d", 1, 1), ("e", 1, 1)])
    with pytest.raises(DataError, match=r"class 'class0' has 2 patient.*expected at least 3"):
        partition_over_sites(manifest, PartitionConfig(), num_sites=3, seed=0)
    lenient = PartitionConfig(min_patients=0)
    assert_parts_of(manifest, partition_over_sites(manifest, lenient, num_sites=2, seed=0))
    with pytest.raises(DataError, match="gets no patient"):
        partition_over_sites(
            manifest,
            PartitionConfig(kind="quantity", shares=[1, 1e-9], min_patients=0),
            num_sites=2,
            seed=0,
        )


def test_fewer_patients_than_parts(make_manifest: MakeManifest) -> None:
    with pytest.raises(DataError, match=r"1 patient\(s\) for train/val"):
        split_by_patient(make_manifest([("a", 0, 9)]), {"train": 0.8, "val": 0.2}, seed=0)
    with pytest.raises(ConfigError, match="add up to 1"):
        split_by_patient(make_manifest([("a", 0, 9)]), {"train": 0.8, "val": 0.8}, seed=0)


def test_wrong_number_of_shares_or_sites(make_manifest: MakeManifest) -> None:
    manifest = make_manifest([(f"p{i}", i % 3, 1) for i in range(30)])
    cfg = PartitionConfig(kind="quantity", shares=[1, 2])
    with pytest.raises(ConfigError, match="2 entries; expected 3"):
        partition_over_sites(manifest, cfg, num_sites=3, seed=0)
    with pytest.raises(ConfigError, match="num_sites=0"):
        partition_over_sites(manifest, cfg, num_sites=0, seed=0)


def sited(*rows: tuple[str, str]) -> Manifest:
    samples = [Sample(f"{i}.png", i % 2, patient, site) for i, (patient, site) in enumerate(rows)]
    return Manifest(Path("/x"), ("a", "b"), tuple(samples))


def test_partition_by_the_manifest() -> None:
    cfg = PartitionConfig(kind="manifest")
    rows = sited(("p", "ulm"), ("q", "bonn"), ("p", "ulm"))
    sites = partition_over_sites(rows, cfg, num_sites=2, seed=0)
    assert [site.patients() for site in sites] == [("q",), ("p",)]
    with pytest.raises(DataError, match=r"names 2 site\(s\) \(bonn, ulm\); expected 3"):
        partition_over_sites(rows, cfg, num_sites=3, seed=0)
    with pytest.raises(DataError, match="patient p is at the sites bonn and ulm"):
        partition_over_sites(sited(("p", "ulm"), ("p", "bonn")), cfg, num_sites=2, seed=0)
    with pytest.raises(DataError, match=r"1.png: has no site"):
        partition_over_sites(sited(("p", "ulm"), ("q", "")), cfg, num_sites=2, seed=0)


def test_a_patient_of_two_classes_stays_together(make_manifest: MakeManifest) -> None:
    manifest = make_manifest([("mixed", 0, 3), *[(f"p{i}", i % 2, 1) for i in range(20)]])
    both = manifest.with_samples([*manifest.samples, Sample("other.png", 1, "mixed")])
    assert_parts_of(both, partition_over_sites(both, PartitionConfig(), num_sites=3, seed=0))


def test_seeding_is_pinned_across_machines() -> None:
    # Any change here changes every published split.
    assert shuffled("abcdef", "split", 1) == shuffled("fedcba", "split", 1) == list("ebcdaf")
    assert generator("x", 1).integers(2**32, size=2).tolist() == [983634587, 3240386824]
