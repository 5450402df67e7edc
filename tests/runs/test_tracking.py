"""Tracking with the real wandb, offline; nothing may reach for the network."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from primia_flwr.config.experiment.tracking import TRACKING_MODES, TrackingConfig
from primia_flwr.config.load import parse
from primia_flwr.errors import ConfigError, TrackingError
from primia_flwr.runs import tracking
from primia_flwr.runs.tracking import Record, send
from primia_flwr.runs.tracking_mode import has_key, resolve_mode

CONF = Path(__file__).parents[2] / "conf" / "tracking"
NOTHING = Record({}, {"": []})


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # it remembers the environment of its first run


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """A listening port that stands for W&B's server and for every proxy."""
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    for name in ("WANDB_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, address)
    return server


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "ofline"}, r"tracking\.mode=ofline; expected one of .*did you mean offline\?"),
        ({"project": "a/b"}, r"tracking\.project='a/b'; expected 1 to 128 characters"),
        ({"project": ""}, r"tracking\.project=''"),
        ({"group": "g" * 129}, r"tracking\.group has 129 characters; expected at most 128"),
        ({"tags": ["ok", ""]}, r"tracking\.tags: ''; expected 1 to 64 characters"),
    ],
)
def test_a_wrong_section_names_key_value_and_expectation(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TrackingConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", TRACKING_MODES)
def test_every_choice_in_conf_spells_all_keys(mode: str) -> None:
    cfg = OmegaConf.load(CONF / f"{mode}.yaml")
    assert isinstance(cfg, DictConfig)
    assert set(cfg) == set(TrackingConfig.__dataclass_fields__)
    assert parse(TrackingConfig, cfg) == TrackingConfig(mode=mode)


def test_auto_is_offline_without_and_online_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_mode(TrackingConfig()) == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert resolve_mode(TrackingConfig()) == "online"
    assert resolve_mode(TrackingConfig(mode="disabled")) == "disabled"


def test_auto_follows_the_environment_and_a_named_mode_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode(TrackingConfig()) == "disabled"
    assert resolve_mode(TrackingConfig(mode="offline")) == "offline"
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    assert resolve_mode(TrackingConfig()) == "offline"


def test_a_netrc_login_counts_as_a_key_for_its_own_server_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine wandb.hospital.example login user password secret\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    assert not has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.hospital.example")
    assert has_key()


def test_online_without_a_key_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"tracking\.mode=online .*WANDB_API_KEY.*offline"):
        send(NOTHING, TrackingConfig(mode="online"), tmp_path)


def test_importing_the_module_does_not_import_wandb() -> None:
    code = "import sys, primia_flwr.runs.tracking; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    record = Record(
        {"seed": 1},
        {"": [{"round": 1, "loss": 0.5}], "site-1": [{"round": 1, "loss": 0.5}]},
        tables={"rounds": [["a"], [1]]},
        summary={"mcc": 0.5},
        model=[tmp_path / "absent"],
    )
    send(record, TrackingConfig(mode="disabled", sites=True), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_offline_run_keeps_its_files_in_the_run_folder_and_off_the_network(
    tmp_path: Path,
    trap: socket.socket,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "radiology-machine-7")
    run_dir = tmp_path / "12-00-00-demo"
    run_dir.mkdir()
    (run_dir / "model.safetensors").write_bytes(b"weights")
    before = dict(os.environ)
    record = Record(
        {"seed": 7, "training": {"learning_rate": 0.1}},
        {
            "": [{"round": 1, "train_loss": 0.7, "val_mcc": None, "val_loss": float("nan")}],
            "site-1": [{"round": 1, "train_loss": 0.8}],
        },
        tables={"sites": [["site", "reason", "n"], ["site-1", None, 3], ["site-2", "x", 4.5]]},
        summary={"mcc": 0.5},
        model=[run_dir / "model.safetensors"],
    )
    send(record, TrackingConfig(mode="offline", sites=True), run_dir)
    sys.modules["wandb"].teardown()  # its service closes the files a moment after the finish

    logs = [p.read_bytes() for p in sorted((run_dir / "wandb").glob("offline-run-*/run-*.wandb"))]
    assert len(logs) == 2, "one W&B run of the coordinator, one of the site"
    assert all(b"12-00-00-demo" in log for log in logs), "both belong to one group"
    assert all(b"not-said" in log and b"radiology-machine-7" not in log for log in logs)
    assert not list((run_dir / "wandb").rglob("requirements.txt")), "no list of packages"
    assert any(b"coordinator" in log and b"train_loss" in log for log in logs)
    assert any(b"site-1" in log and b"coordinator" not in log for log in logs)
    assert list((run_dir / "wandb").glob("offline-run-*/files/media/table/sites_*.json"))
    staged = [p for p in (run_dir / "wandb").rglob("staging/*") if p.is_file()]
    assert b"weights" in [p.read_bytes() for p in staged], "the model waits for the upload"
    left = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}
    assert left == before, "W&B's settings are only set while the run is open"
    assert capfd.readouterr() == ("", "")
    with pytest.raises(BlockingIOError):
        trap.accept()


@pytest.mark.parametrize("sites", [True, False])
def test_a_site_and_the_model_are_sent_only_if_asked_for(tmp_path: Path, sites: bool) -> None:
    (tmp_path / "m").write_bytes(b"weights")
    record = Record({}, {"": [], "site-1": []}, model=[tmp_path / "m"])
    send(record, TrackingConfig(mode="offline", sites=sites, model=False), tmp_path)
    assert len(list(tmp_path.glob("wandb/*.id"))) == 1 + sites
    assert not [p for p in (tmp_path / "wandb").rglob("staging/*") if p.is_file()]


def test_a_second_start_in_the_folder_goes_on_under_the_same_id(tmp_path: Path) -> None:
    for _ in range(2):
        send(NOTHING, TrackingConfig(mode="offline"), tmp_path)
    assert len({p.name for p in tmp_path.glob("wandb/offline-run-*/run-*.wandb")}) == 1


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "primia_flwr.runs.tracking"]


def test_a_failure_inside_wandb_is_one_warning_and_no_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    absent = [tmp_path / "absent.safetensors"]
    record = Record({}, {"": []}, {"t": [["a", "b"], [1]]}, {"mcc": 0.5}, absent)
    with caplog.at_level(logging.WARNING, "primia_flwr.runs.tracking"):
        send(record, TrackingConfig(mode="offline"), tmp_path)
    first, second = warnings_of(caplog)
    assert "table t could not be recorded" in first
    assert "the model could not be recorded" in second


def test_an_unwritable_folder_is_a_warning_not_an_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "wandb").write_text("a file where a folder should be")
    send(Record({}, {"": [{"loss": 1.0}]}), TrackingConfig(mode="offline"), tmp_path)
    (message,) = warnings_of(caplog)
    assert "the run goes on" in message


def test_a_wandb_that_does_not_know_a_switch_gets_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tracking._SETTINGS, "x_disable_what_comes_next", True)
    send(NOTHING, TrackingConfig(mode="offline"), tmp_path)
    assert "x_disable_what_comes_next" in "".join(warnings_of(caplog))
    assert not list(tmp_path.glob("wandb/*run*"))


def test_a_key_that_is_none_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"tracking\.mode=online: W&B refuses .*offline"):
        send(NOTHING, TrackingConfig(mode="online"), tmp_path)
    assert "WANDB_SILENT" not in os.environ


def test_an_unreachable_server_falls_back_to_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setitem(tracking._SETTINGS, "init_timeout", 2)
    record = Record({}, {"": [{"round": 1, "loss": 1.0}], "site-1": []})
    send(record, TrackingConfig(mode="online", sites=True), tmp_path)
    assert "goes on offline" in caplog.text
    assert caplog.text.count("the start could not be recorded") == 1, "the site is not tried online"
    assert len(list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))) == 2
