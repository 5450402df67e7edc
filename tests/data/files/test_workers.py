"""Processes that decode may die; what asked them goes on, and leaves none behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000Lossless

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.files.decoding import workers
from primia_flwr.data.files.decoding.claims import read_claims
from primia_flwr.data.files.decoding.compressed import compressed_words
from primia_flwr.data.files.decoding.stream import open_dicom
from primia_flwr.data.files.images import decode
from primia_flwr.data.files.listing import file_digest, read_head
from primia_flwr.data.files.store import in_parallel, open_store
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.errors import DataError
from tests.data.files.variants import dataset, set_pixels, write

J2K = Path(str(get_testdata_file("MR_small_jp2klossless.dcm", download=False)))


@pytest.fixture(autouse=True)
def _none_before_and_after() -> Iterator[None]:
    workers.end_all()
    yield
    workers.end_all()


def of_this_process() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if any("decoding.worker" in a for a in child.cmdline())]


def test_an_image_comes_whole_and_the_process_is_used_again() -> None:
    first = decode(J2K)
    (process,) = of_this_process()
    assert np.array_equal(decode(J2K), first)
    assert of_this_process() == [process]
    workers.end_all()
    assert not of_this_process()


def test_stored_values_come_with_what_they_are() -> None:
    words, photometric = workers.stored_values(J2K, size=8192)
    with open_dicom(J2K) as file:
        expected, _ = compressed_words(file, read_claims(file, at_most=10_000))
    assert photometric == "MONOCHROME2"
    assert (words.stored, words.shift, words.signed) == (16, 0, True)
    assert words.pixels.dtype == np.uint16
    assert np.array_equal(words.pixels, expected.pixels)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dies.dcm", r"its decoder died of it \(SIGSEGV\); expected an intact DICOM image"),
        ("slow.dcm", "was not decoded within 0.2 s"),
        ("half.dcm", r"its decoder died of it \(exit code 3\)"),
    ],
)
def test_a_file_that_ends_its_decoder_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    monkeypatch.setattr(workers, "_MODULE", "tests.data.files.bad_worker")
    monkeypatch.setattr(workers, "SECONDS", 0.2)
    assert workers.decode(tmp_path / "good.dcm", size=2).tolist() == [[97, 98]]
    with pytest.raises(DataError, match=says) as caught:
        workers.decode(tmp_path / name, size=2)
    assert str(tmp_path / name) in str(caught.value)
    assert workers.decode(tmp_path / "good.dcm", size=2).tolist() == [[97, 98]]


def test_a_process_that_was_killed_while_it_waited_is_replaced() -> None:
    expected = decode(J2K)
    (process,) = of_this_process()
    process.kill()
    process.wait(5)
    assert np.array_equal(decode(J2K), expected)
    assert process not in of_this_process()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS counts on Linux only")
def test_memory_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset()
    set_pixels(made, np.zeros((4000, 4000), np.int64), allocated=16, stored=12)
    made.compress(JPEG2000Lossless)
    large = write(made, tmp_path / "large.dcm")
    decode(J2K)  # loads the decoder
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_MEMORY", 1 << 20)
        patch.setattr(workers, "_MEMORY_PER_BYTE", 0)
        with pytest.raises(DataError, match=r"needs more memory|decoder died|cannot be decoded"):
            decode(large)
    assert decode(large).shape == (4000, 4000)


def test_threads_have_a_process_each() -> None:
    expected = decode(J2K)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: decode(J2K), range(24)))
    assert all(np.array_equal(one, expected) for one in found)
    assert 1 <= len(of_this_process()) <= 3


def test_threads_that_are_done_leave_no_processes() -> None:
    assert len(list(in_parallel(decode, [J2K] * 8, workers=2))) == 8
    assert not of_this_process()


def test_a_store_of_compressed_images_leaves_out_the_one_that_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.dcm", "dies.dcm", "z.dcm"):
        (tmp_path / name).write_bytes(J2K.read_bytes())
    monkeypatch.setattr(workers, "_MODULE", "tests.data.files.bad_worker")
    names = ("a.dcm", "dies.dcm", "z.dcm")
    manifest = Manifest(tmp_path, ("ill",), tuple(Sample(name, 0, name) for name in names))
    cfg = DataConfig(
        layout="folder", cache_dir=str(tmp_path / "cache"), image_size=16, skip_unreadable=True
    )
    store = open_store(manifest, cfg)
    assert list(store.row_of) == ["a.dcm", "z.dcm"]
    assert "SIGSEGV" in store.unreadable["dies.dcm"]


SCRIPT = """
import os, sys
from pathlib import Path
from primia_flwr.data.files.decoding import workers
from primia_flwr.data.files.decoding.claims import read_claims
from primia_flwr.data.files.decoding.compressed import compressed_words
from primia_flwr.data.files.decoding.stream import open_dicom
from primia_flwr.data.files.images import decode
path = Path(sys.argv[1])
first = decode(path)
def pids():
    return [worker._process.pid for worker in workers._idle]
print(*pids(), flush=True)
if sys.argv[2] == "fork":
    child = os.fork()
    if not child:
        assert not pids()
        assert (decode(path) == first).all()
        workers.end_all()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    before = pids()
    assert (decode(path) == first).all() and pids() == before
if sys.argv[2] == "wait":
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["exit", "fork"])
def test_none_is_left_at_the_end(how: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(J2K), how], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert not psutil.pid_exists(int(ended.stdout.split()[0]))


def test_none_is_left_where_what_asked_is_killed() -> None:
    asking = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(J2K), "wait"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert asking.stdout is not None
    (pid,) = map(int, asking.stdout.readline().split())
    assert psutil.pid_exists(pid)
    asking.send_signal(signal.SIGKILL)
    asking.communicate()
    until = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "device.dcm").symlink_to("/dev/zero")
    (tmp_path / "nothing.dcm").symlink_to(tmp_path / "missing")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(tmp_path / "socket.tif"))
    bound.close()
    for name, says in {
        "pipe.png": "a pipe, a socket or a device",
        "folder.png": "folder|directory",
        "device.dcm": "a pipe, a socket or a device",
        "nothing.dcm": "No such file",
        "socket.tif": "a pipe, a socket or a device",
        "a\0b.png": "embedded null|no name",
    }.items():
        for read in (decode, file_digest):
            with pytest.raises(DataError, match=says):
                read(tmp_path / name)
        with pytest.raises((OSError, ValueError)):
            read_head(tmp_path / name)
