import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import PolicyRefusal
from primia_flwr.flower.bundle import stage_bundle
from primia_flwr.site.bundle import archive
from primia_flwr.site.bundle.archive import read_archive
from tests.site.bundle_maker import PROJECT, make_bundle

FILES = {"a.py": "a = 1\n", "light/b.py": "b = 2\n" * 50}
DEFLATED = make_bundle(FILES)
STORED = make_bundle(FILES, method=zipfile.ZIP_STORED)
END = struct.Struct("<4s4H2LH")
# Where fields stand in an entry of the directory, and in the header before a file.
IN_ENTRY = {
    **{"sign": (0, 4), "needs": (6, 2), "flags": (8, 2), "method": (10, 2), "time": (12, 2)},
    **{"crc": (16, 4), "packed": (20, 4), "size": (24, 4), "name": (28, 2), "extra": (30, 2)},
    **{"comment": (32, 2), "disk": (34, 2), "attributes": (38, 4), "offset": (42, 4)},
}
IN_LOCAL = {
    **{"sign": (0, 4), "needs": (4, 2), "flags": (6, 2), "method": (8, 2), "time": (10, 2)},
    **{"crc": (14, 4), "packed": (18, 4), "size": (22, 4), "name": (26, 2), "extra": (28, 2)},
}
IN_END = {"disk": (4, 2), "first": (6, 2), "here": (8, 2), "count": (10, 2), "comment": (20, 2)}


def end_of(content: bytes) -> tuple[int, int]:
    """Return where the directory starts and where it ends."""
    *_, size, start, _ = END.unpack(content[-22:])
    return start, start + size


def changed(content: bytes, at: int, width: int, value: int) -> bytes:
    return content[:at] + value.to_bytes(width, "little") + content[at + width :]


def with_entry(field: str, value: int, *, content: bytes = DEFLATED) -> bytes:
    at, width = IN_ENTRY[field]
    return changed(content, end_of(content)[0] + at, width, value)


def with_local(field: str, value: int, *, content: bytes = DEFLATED) -> bytes:
    at, width = IN_LOCAL[field]
    return changed(content, at, width, value)


@pytest.mark.parametrize("content", [STORED, DEFLATED])
def test_what_pythons_own_writer_makes_is_read(content: bytes) -> None:
    expected = {"pyproject.toml": PROJECT, **FILES}
    assert read_archive(content) == {name: text.encode() for name, text in expected.items()}


def test_the_projects_own_bundle_is_read_as_zipfile_reads_it(tmp_path: Path) -> None:
    content = stage_bundle(tmp_path).content
    found = read_archive(content)
    with zipfile.ZipFile(io.BytesIO(content)) as other:
        assert found == {name: other.read(name) for name in other.namelist()}
    assert "clients/client_app.py" in found


@pytest.mark.parametrize("field", IN_LOCAL)
def test_a_header_that_contradicts_the_directory_is_refused(field: str) -> None:
    with pytest.raises(PolicyRefusal, match="contradict each other"):
        read_archive(with_local(field, 0x4321))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sign", 0x02014B51),
        ("needs", 45),  # zip64
        ("flags", 0x1),  # encrypted
        ("flags", 0x8),  # sizes after the file
        ("flags", 0x800),  # a name in another encoding
        ("method", 12),  # bzip2
        ("method", 14),  # lzma
        ("method", 99),
        ("time", 0x4321),
        ("crc", 1),
        ("packed", 0xFFFFFFFF),
        ("packed", 0),
        ("size", 0xFFFFFFFF),
        ("size", 0),
        ("extra", 4),
        ("comment", 4),
        ("disk", 1),
        ("attributes", (stat.S_IFLNK | 0o777) << 16),
        ("attributes", (stat.S_IFCHR | 0o600) << 16),
        ("attributes", (stat.S_IFIFO | 0o600) << 16),
        ("attributes", (stat.S_IFDIR | 0o700) << 16),
        ("attributes", 0x10),
        ("offset", 1),
    ],
)
def test_an_entry_that_no_honest_bundle_has_is_refused(field: str, value: int) -> None:
    with pytest.raises(PolicyRefusal, match=r"cannot be read|expected plain files|unpacks to"):
        read_archive(with_entry(field, value))


@pytest.mark.parametrize(
    ("field", "value"), [("disk", 1), ("first", 1), ("here", 2), ("count", 2), ("comment", 3)]
)
def test_an_end_that_lies_is_refused(field: str, value: int) -> None:
    at, width = IN_END[field]
    with pytest.raises(PolicyRefusal, match="cannot be read"):
        read_archive(changed(DEFLATED, len(DEFLATED) - 22 + at, width, value))


def test_nothing_stands_before_between_or_after() -> None:
    start, end = end_of(DEFLATED)
    shifted = DEFLATED[-22:-6] + (start + 3).to_bytes(4, "little") + b"\0\0"
    for content in (
        b"MZ\0" + DEFLATED,
        b"#!/bin/sh\n" + DEFLATED,
        DEFLATED + b"\0",
        DEFLATED + b"x" * 22,
        DEFLATED[:start] + b"abc" + DEFLATED[start:end] + shifted,
        DEFLATED[:start] + b"abc" + DEFLATED[start:],
        DEFLATED[:end] + b"abc" + DEFLATED[end:],
    ):
        with pytest.raises(PolicyRefusal, match="cannot be read"):
            read_archive(content)


def test_a_64_bit_end_is_refused_even_where_it_hides_in_the_directory() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("pyproject.toml", PROJECT)
        info = zipfile.ZipInfo("folder/b.py")
        made.writestr(info, "b = 1\n")
    content = buffer.getvalue()
    locator = content[:-42] + b"PK\x06\x07" + content[-38:]
    with pytest.raises(PolicyRefusal, match="64-bit kind"):
        read_archive(locator)
    extra = b"PK\x06\x07" + bytes(16)
    with pytest.raises(PolicyRefusal, match="cannot be read"):
        read_archive(content[:-22] + extra + content[-22:])


def test_two_files_of_one_name_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("a.py", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("a.py", "2")
    with pytest.raises(PolicyRefusal, match="names a file twice"):
        read_archive(buffer.getvalue())


def test_folders_as_entries_are_refused() -> None:
    with pytest.raises(PolicyRefusal, match="expected plain files"):
        read_archive(make_bundle({"light/": ""}))


def test_a_file_longer_or_shorter_than_it_says_is_not_unpacked_beyond_that() -> None:
    bomb = make_bundle({"zeros.py": "0" * 40_000_000})
    assert len(bomb) < 50_000
    start, _ = end_of(bomb)
    second = start + 46 + len("pyproject.toml")
    local = bomb.index(b"PK\x03\x04", 4)
    lying = changed(bomb, second + IN_ENTRY["size"][0], 4, 100)
    lying = changed(lying, local + IN_LOCAL["size"][0], 4, 100)
    with pytest.raises(PolicyRefusal, match="not as long as it says"):
        read_archive(lying)


def test_sizes_and_numbers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PolicyRefusal, match="unpacks to more than 67108864"):
        read_archive(make_bundle({"zeros.py": "0" * (65 * 2**20)}))
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    with pytest.raises(PolicyRefusal, match="bundle of 3 files; expected at most 2"):
        read_archive(DEFLATED)
    monkeypatch.setattr(archive, "MAX_BUNDLE_BYTES", 100)
    with pytest.raises(PolicyRefusal, match=f"bundle of {len(DEFLATED)} bytes"):
        read_archive(DEFLATED)


@given(st.binary(max_size=200), st.integers(0, len(DEFLATED)), st.sampled_from([STORED, DEFLATED]))
def test_what_is_accepted_has_one_reading(noise: bytes, at: int, honest: bytes) -> None:
    for content in (noise, honest[:at] + noise + honest[at + len(noise) :], honest[:at] + noise):
        try:
            found = read_archive(content)
        except PolicyRefusal:
            continue
        with zipfile.ZipFile(io.BytesIO(content)) as other:
            assert found == {name: other.read(name) for name in other.namelist()}


@given(st.integers(0, len(DEFLATED) - 1), st.integers(0, 255), st.sampled_from([STORED, DEFLATED]))
def test_a_changed_byte_is_refused_or_read_alike(at: int, value: int, honest: bytes) -> None:
    at %= len(honest)
    content = honest[:at] + bytes([value]) + honest[at + 1 :]
    try:
        found = read_archive(content)
    except PolicyRefusal:
        return
    with zipfile.ZipFile(io.BytesIO(content)) as other:
        assert found == {name: other.read(name) for name in other.namelist()}
