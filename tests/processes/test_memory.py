"""Buffers that a Flower process keeps: the user's own setting wins, and the setting does work."""

import subprocess
import sys
from pathlib import Path

import pytest

from primia_flwr.processes.children import flower_environment
from primia_flwr.processes.memory import memory_settings

# A process that makes and drops a buffer of 40 MB again and again: how often a page was mapped.
_FAULTS = """
import resource
for _ in range(6):
    bytes(bytearray(b"x") * (40 << 20))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(environment: dict[str, str]) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_every_flower_process_has_them_and_the_users_own_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    assert flower_environment(tmp_path).items() >= memory_settings().items()
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")
    assert flower_environment(tmp_path)["MALLOC_MMAP_THRESHOLD_"] == "131072"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's variables")
def test_a_buffer_is_mapped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in memory_settings():
        monkeypatch.delenv(name, raising=False)
    before, after = faults({}), faults(memory_settings())
    if before > 1000:  # a sandbox may not count them
        assert after < before / 3
