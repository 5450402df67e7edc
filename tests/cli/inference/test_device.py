"""`device=` of encrypted inference: what is refused, before anything is read or opened."""

from __future__ import annotations

import pytest
import torch

from primia_flwr.cli.inference.service import device_of
from primia_flwr.cli.main import run
from primia_flwr.config.inference import InferArguments, ServeProviderArguments
from primia_flwr.errors import ConfigError
from primia_flwr.inference.arithmetic import ring

COMMANDS = (["serve", "crypto-provider"], ["serve", "model-owner"], ["inference", "trial"])


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == ring.CPU


@pytest.mark.parametrize("command", COMMANDS)
def test_a_gpu_that_is_not_there_is_refused(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run([*command, "device=cuda"]) == 2
    error = capsys.readouterr().err
    assert "device=cuda; expected auto, cpu or one of this machine's 0 CUDA devices" in error
    assert "Traceback" not in error


def test_a_device_that_is_none_is_refused() -> None:
    for arguments in (ServeProviderArguments, InferArguments):
        with pytest.raises(ConfigError, match="device=gpu; expected one of auto, cpu, cuda"):
            arguments(device="gpu")


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_crypten_computes_on_the_cpu_alone(device: str) -> None:
    InferArguments(device="cpu", protocol="crypten")
    with pytest.raises(ConfigError, match=f"device={device} with protocol=crypten"):
        InferArguments(device=device, protocol="crypten")
