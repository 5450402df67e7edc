from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from primia_flwr.cli.command import call
from primia_flwr.cli.data.check import COMMAND as CHECK
from primia_flwr.cli.data.partition import COMMAND as PARTITION
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.check import check_data
from primia_flwr.data.dataset import load_own_site, load_site, load_test

WriteImage = Callable[..., Path]


def test_a_sound_folder(class_folders: DataConfig) -> None:
    found = check_data(class_folders, seed=1)
    assert found.ok
    assert (found.images, found.patients) == (24, 12)
    assert found.classes == {
        "ill": {"images": 12, "patients": 6},
        "well": {"images": 12, "patients": 6},
    }
    assert found.kinds == {"png": 24}
    assert found.sizes == {"height": [20, 20, 20], "width": [24, 24, 24]}
    assert (found.unreadable, found.duplicates, found.warnings) == ({}, [], [])


def test_all_unreadable_files_are_collected(class_folders: DataConfig) -> None:
    root = Path(class_folders.root)
    (root / "ill" / "ill0" / "0.png").write_text("text")
    whole = (root / "well" / "well0" / "0.png").read_bytes()
    (root / "well" / "well0" / "0.png").write_bytes(whole[: len(whole) // 2])
    found = check_data(class_folders, seed=1)
    assert not found.ok
    assert set(found.unreadable) == {"ill/ill0/0.png", "well/well0/0.png"}
    assert "2 unreadable file(s)" in found.errors[0]
    lenient = check_data(replace(class_folders, skip_unreadable=True), seed=1)
    assert lenient.ok
    assert lenient.warnings == ["2 unreadable file(s) will be left out"]


def test_duplicates_by_bytes_and_by_pixels(class_folders: DataConfig) -> None:
    root = Path(class_folders.root)
    shutil.copy(root / "ill" / "ill0" / "0.png", root / "ill" / "ill0" / "copy.png")
    with Image.open(root / "ill" / "ill1" / "0.png") as image:
        image.save(root / "well" / "well1" / "same.tif")
    found = check_data(class_folders, seed=1)
    assert found.ok
    assert found.duplicates == [
        ["ill/ill0/0.png", "ill/ill0/copy.png"],
        ["ill/ill1/0.png", "well/well1/same.tif"],
    ]
    assert found.contradicting_duplicates == [["ill/ill1/0.png", "well/well1/same.tif"]]


def test_patients_on_both_sides_and_ignored_folders(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for name in ("train/a/p1/1.png", "train/b/p2/1.png", "test/a/p1/2.png", "old/a/p1/3.png"):
        write_image(tmp_path / name)
    cfg = DataConfig(layout="auto", root=str(tmp_path))
    found = check_data(cfg, seed=1)
    assert found.patients_on_both_sides == {"p1": ["test", "train"]}
    assert "e.g. p1, are in the test folder" in found.errors[0]
    assert found.ignored_folders == ["old"]
    assert check_data(replace(cfg, split="all"), seed=1).ok
    assert found.splits["train"] == {"images": 2, "patients": 2}


def test_a_patient_at_two_sites_and_unknown_patients(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for name in "123":
        write_image(tmp_path / f"{name}.png")
    table = tmp_path / "m.csv"
    table.write_text("path,label,patient,site\n1.png,a,p,ulm\n2.png,b,p,bonn\n3.png,b,,bonn\n")
    found = check_data(DataConfig(layout="manifest", manifest=str(table)), seed=1)
    assert found.patients_at_two_sites == {"p": ["bonn", "ulm"]}
    assert "e.g. p, are at the sites bonn and ulm" in found.errors[0]
    assert "patient of 1 image(s) is unknown" in found.warnings[0]


@pytest.mark.parametrize("layout", ["auto", "folder", "pneumonia", "manifest", "synthetic"])
def test_what_cannot_be_listed_is_a_finding_not_a_crash(tmp_path: Path, layout: str) -> None:
    found = check_data(DataConfig(layout=layout, root=str(tmp_path / "none")), seed=1)
    assert not found.ok
    assert len(found.errors) == 1


def overrides(cfg: DataConfig) -> list[str]:
    return [f"data.root={cfg.root}", f"data.cache_dir={cfg.cache_dir}", "data.image_size=16"]


def last_line(text: str) -> dict[str, object]:
    result: dict[str, object] = json.loads(text.strip().splitlines()[-1])
    return result


def test_check_on_the_command_line(
    class_folders: DataConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(CHECK, overrides(class_folders)) == 0
    out = capsys.readouterr().out
    assert "ready for training" in out
    assert last_line(out)["images"] == 24
    (Path(class_folders.root) / "ill" / "ill0" / "0.png").write_text("text")
    assert call(CHECK, [*overrides(class_folders), "quiet=true"]) == 1
    captured = capsys.readouterr()
    assert len(captured.out.strip().splitlines()) == 1
    assert last_line(captured.out)["ok"] is False
    assert "ill0/0.png" in captured.err


def test_partition_on_the_command_line_is_what_a_simulation_gets(
    class_folders: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["site_names=[ulm,bonn]", "sites=2", f"output={tmp_path / 'out'}", "seed=4"]
    assert call(PARTITION, [*overrides(class_folders), *names, "pseudonyms=false"]) == 0
    result = last_line(capsys.readouterr().out)
    assert set(result["files"]) == {"ulm", "bonn", "test"}
    assert not list((tmp_path / "out").rglob("*.png"))
    for index, name in enumerate(("bonn", "ulm")):  # dealt by name, not by place
        site = DataConfig(
            layout="manifest",
            root=class_folders.root,
            manifest=str(tmp_path / "out" / f"{name}.csv"),
            cache_dir=class_folders.cache_dir,
            image_size=16,
        )
        own = load_own_site(site, seed=4, name=name)
        simulated = load_site(class_folders, seed=4, site_index=index, num_sites=2)
        assert own.train.files == simulated.train.files
        assert own.val.files == simulated.val.files
        assert own.train.label_counts() == simulated.train.label_counts()
    listed = (tmp_path / "out" / "test.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in listed] == list(load_test(class_folders, seed=4).files)


def test_a_partition_on_disk_names_no_patient_and_keeps_each_one_together(
    class_folders: DataConfig, tmp_path: Path
) -> None:
    arguments = [*overrides(class_folders), "sites=2", "seed=4", "quiet=true"]
    told: list[dict[str, str]] = []
    for folder, pseudonyms in (("named", "false"), ("out", "true")):
        output = [f"output={tmp_path / folder}", f"pseudonyms={pseudonyms}"]
        assert call(PARTITION, [*arguments, *output]) == 0
        rows = [
            line.split(",")
            for path in sorted((tmp_path / folder).glob("*.csv"))
            for line in path.read_text().splitlines()[1:]
        ]
        told.append({row[0]: row[2] for row in rows})
    named, pseudonymous = told
    assert set(named) == set(pseudonymous)
    pairs = {(named[path], pseudonymous[path]) for path in named}
    assert len(pairs) == len(set(named.values())) == len(set(pseudonymous.values())) == 12
    assert all(re.fullmatch("p[a-z2-7]{16}", name) for name in pseudonymous.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sites=0", "sites=0"),
        ("sites=50", "use fewer sites"),
        ("sites=3 site_names=[a,b]", "expected 3 different ones"),
        ("site_names=[../a,b,c]", "site_names=../a"),
        ("data.partition.kind=fair", "expected one of iid"),
        ("data.root=/nowhere", "expected an existing folder"),
    ],
)
def test_partition_mistakes(
    class_folders: DataConfig, change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(PARTITION, [*overrides(class_folders), *change.split()]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_one_class_will_do_where_the_others_are_named(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for number in range(3):
        write_image(tmp_path / "well" / f"{number}.png", seed=number)
    alone = DataConfig(layout="folder", root=str(tmp_path))
    assert "found 1 class(es) ['well']" in check_data(alone, seed=1).errors[0]
    found = check_data(replace(alone, classes=["ill", "well"]), seed=1)
    assert found.ok
    assert any("all images are of the class 'well'" in text for text in found.warnings)


def test_a_depth_that_is_guessed_is_said(tmp_path: Path) -> None:
    for name, content in (("ill", 40), ("well", 4000)):
        (tmp_path / name).mkdir()
        for number in range(2):
            picture = np.full((20, 20), content + number, np.uint16)
            Image.fromarray(picture).save(tmp_path / name / f"{number}.png")
    found = check_data(DataConfig(layout="folder", root=str(tmp_path)), seed=1)
    assert any(text.startswith("4 image(s) of more than 8 bits") for text in found.warnings)


def test_a_class_that_nothing_shows_is_said(class_folders: DataConfig) -> None:
    named = replace(class_folders, classes=["ill", "rare", "well"])
    found = check_data(named, seed=1)
    assert (found.ok, found.warnings) == (
        True, ["no image shows rare: it cannot be learned here"],
    )  # fmt: skip


def test_masks_of_the_background_alone_are_said(tmp_path: Path, write_image: WriteImage) -> None:
    for number in range(4):
        name = f"p{number}/x.png"
        write_image(tmp_path / "images" / name, seed=number)
        (tmp_path / "masks" / name).parent.mkdir(parents=True)
        size = Image.open(tmp_path / "images" / name).size
        Image.new("L", size).save(tmp_path / "masks" / name)
    cfg = DataConfig(
        layout="paired", task="segmentation", root=str(tmp_path), classes=["none", "lesion"]
    )
    assert "no mask shows lesion: it cannot be learned here" in check_data(cfg, seed=1).warnings
