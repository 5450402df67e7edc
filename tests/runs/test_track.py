"""A run in tracking: the key is asked for first, curves come while it goes, it ends as it did."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.tracking import TrackingConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.errors import FederationError, TrackingError
from primia_flwr.flower.launcher import RunStopped
from primia_flwr.pipeline.tracked import tracked
from primia_flwr.runs import track
from primia_flwr.runs.history import append_event
from primia_flwr.runs.track import points_of
from primia_flwr.runs.tracking_mode import check_server

METRICS = TASKS["classification"].metrics
KEY = "0" * 40


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@contextmanager
def server(status: int, body: str) -> Iterator[str]:
    """Stand for a W&B server: one answer to every question."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize("mode", ["online", "auto"])
@pytest.mark.parametrize(("status", "body"), [(401, ""), (200, '{"data": {"viewer": null}}')])
def test_a_key_that_is_refused_is_found_first(
    mode: str, status: int, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with server(status, body) as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        with pytest.raises(TrackingError, match="refuses the key"):
            check_server(TrackingConfig(mode=mode))


def test_a_key_that_is_taken_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with server(200, '{"data": {"viewer": {"id": "x"}}}') as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        check_server(TrackingConfig(mode="online"))


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "no address", "http://[::1"])
def test_a_server_that_does_not_answer_ends_online_only(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", address)
    with pytest.raises(TrackingError, match=r"does not answer .*WANDB_BASE_URL.*offline"):
        check_server(TrackingConfig(mode="online"))
    check_server(TrackingConfig(mode="auto"))
    check_server(TrackingConfig(mode="offline"))


def test_a_validation_is_a_point_of_its_own_round() -> None:
    event = {
        "event": "round_finished", "round": 2, "train_loss": 0.5, "val_round": 1,
        "val_mcc": 0.25, "val_loss": 0.7,
    }  # fmt: skip
    trained, seen = points_of(event, METRICS)
    assert (trained["round"], trained["train_loss"]) == (2, 0.5)
    assert (seen["round"], seen["val_mcc"], seen["val_loss"]) == (1, 0.25, 0.7)
    (last,) = points_of({**event, "event": "validated", "val_round": 2}, METRICS)
    assert (last["round"], last["val_mcc"]) == (2, 0.25)
    assert points_of({"event": "started"}, METRICS) == []
    assert len(points_of({**event, "val_round": 0}, METRICS)) == 1


def log_of(run_dir: Path) -> bytes:
    sys.modules["wandb"].teardown()  # its service closes the files a moment after the finish
    (log,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
    return log.read_bytes()


def experiment() -> Experiment:
    return Experiment(tracking=TrackingConfig(mode="offline"))


def test_curves_come_while_the_run_goes(
    make_run_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "abc")  # none, but offline needs none
    run_dir = make_run_folder(tmp_path / "0")
    (run_dir / "events.jsonl").unlink(missing_ok=True)
    with tracked(experiment(), run_dir) as curves:
        append_event(run_dir, "round_finished", round=1, train_loss=0.4375, val_round=0)
        curves.update()
        assert curves._sent
        append_event(run_dir, "validated", round=1, val_mcc=0.625)
    log = log_of(run_dir)
    for word in (b"0.4375", b"0.625", b"objective", b"finished", b"demo 0", tmp_path.name.encode()):
        assert word in log


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RunStopped("hopeless", {"status": "pruned"}), b"pruned"),
        (RunStopped("NaN", {"status": "diverged"}), b"diverged"),
        (FederationError("no site came"), b"no site came"),
        (KeyboardInterrupt(), b"stopped"),
    ],
)
def test_a_run_that_does_not_finish_ends_as_it_did(
    error: BaseException, status: bytes, tmp_path: Path
) -> None:
    append_event(tmp_path, "round_finished", round=1, train_loss=0.5, val_round=0)

    def ends() -> None:
        with tracked(experiment(), tmp_path):
            raise error

    with pytest.raises(type(error)):
        ends()
    assert status in log_of(tmp_path)


def test_what_tracking_cannot_do_at_the_end_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracked(experiment(), tmp_path):
        pass  # no file of a run is there, so there is nothing to send
    assert "tracking: " in caplog.text
    assert track.logger.name in {record.name for record in caplog.records}
