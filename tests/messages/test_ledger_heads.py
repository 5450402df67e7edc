import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import DataError, ProtocolError
from primia_flwr.messages.ledger_heads import LedgerHead, LedgerHeads, read_heads
from primia_flwr.primitives.keys import sign
from primia_flwr.secagg.protocol.parties import Session

KEYS = {name: Ed25519PrivateKey.generate() for name in ("london", "munich", "paris")}
SESSION = Session("run", {n: k.public_key().public_bytes_raw() for n, k in KEYS.items()})


def head(site: str, answers: int, by: str = "", text: str = "aa") -> LedgerHead:
    return LedgerHead.signed(KEYS[by or site], site=site, answers=answers, hash=text)


def old_head(site: str, seq: int) -> LedgerHead:
    """As versions before signed it."""
    signature = sign(KEYS[site], "primia privacy v1 ledger head", site, seq, "aa")
    return LedgerHead(site, seq, "aa", base64.b64encode(signature).decode(), "seq")


def test_the_newest_head_of_each_site_is_kept() -> None:
    heads = LedgerHeads(SESSION)
    heads.learn([head("munich", 3), head("paris", 1)])
    heads.learn([head("munich", 2), head("paris", 4)])
    found = {site: heads.newest(site) for site in KEYS}
    assert (found["munich"].number, found["paris"].number, found["london"]) == (3, 4, None)


def test_a_head_says_answers_and_hash_alone() -> None:
    assert set(head("munich", 3).to_dict()) == {"site", "answers", "hash", "signature"}


def test_an_old_head_is_kept_and_compared_but_not_sent(tmp_path: Path) -> None:
    file = tmp_path / "heads.json"
    file.write_text(json.dumps([old_head("munich", 9).to_dict()]))
    heads = LedgerHeads(SESSION, [file])
    heads.learn([head("munich", 3)])
    assert [one["answers"] for one in json.loads(heads.to_text())] == [3]
    again = LedgerHeads(SESSION, [file])
    assert (again.newest("munich").number, again.newest_old("munich").number) == (3, 9)


def test_an_entry_is_no_answer() -> None:
    """A number that was signed as one thing does not count as the other."""
    heads = LedgerHeads(SESSION)
    old, new = old_head("munich", 9), head("munich", 3)
    heads.learn([replace(old, counts="answers"), replace(new, counts="seq")])
    assert heads.newest("munich") is heads.newest_old("munich") is None


def test_nobody_speaks_for_another_site() -> None:
    heads = LedgerHeads(SESSION)
    forged = head("munich", 99, by="paris")
    moved = LedgerHead("munich", 99, "aa", head("munich", 3).signature)
    renamed = LedgerHead("munich", 3, "aa", head("paris", 3).signature)
    garbled = LedgerHead("munich", 3, "aa", "no base64!")
    heads.learn([forged, moved, renamed, garbled])
    assert heads.newest("munich") is None
    heads.learn([head("munich", 5), forged])
    assert heads.newest("munich").number == 5


def test_a_stranger_is_passed_over() -> None:
    heads = LedgerHeads(SESSION)
    own = Ed25519PrivateKey.generate()
    heads.learn([LedgerHead.signed(own, site="rome", answers=1, hash="aa")])
    assert heads.to_text() == "[]"


def test_heads_outlive_the_process_in_every_file(tmp_path: Path) -> None:
    files = [tmp_path / "run" / "heads.json", tmp_path / "federation" / "heads.json"]
    LedgerHeads(SESSION, files).learn([head("munich", 7)])
    for file in files:
        assert LedgerHeads(SESSION, [file]).newest("munich").number == 7
    LedgerHeads(SESSION, files[:1]).learn([head("munich", 9)])
    assert LedgerHeads(SESSION, files).newest("munich").number == 9


def test_a_damaged_file_is_not_forgotten_in_silence(tmp_path: Path) -> None:
    file = tmp_path / "heads.json"
    file.write_text("[{")
    with pytest.raises(DataError, match=r"heads\.json cannot be read"):
        LedgerHeads(SESSION, [file])


def test_what_was_written_is_read() -> None:
    heads = LedgerHeads(SESSION)
    heads.learn([head("paris", 4), head("munich", 3)])
    assert [one.site for one in read_heads(heads.to_text())] == ["munich", "paris"]
    again = LedgerHeads(SESSION)
    again.learn(read_heads(heads.to_text()))
    assert again.to_text() == heads.to_text()


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(_VALUES)
def test_anything_else_is_refused(value: object) -> None:
    if value == []:
        return
    with pytest.raises(ProtocolError, match="cannot be read"):
        read_heads(json.dumps(value))


@pytest.mark.parametrize(
    "text", [3, None, "", "[", '[{"site": "a", "seq": 0, "hash": "", "signature": ""}]',
             '[{"site": "a", "seq": true, "hash": "", "signature": ""}]', "[" * 100_000,
             '[{"site": "a", "answers": 1, "seq": 1, "hash": "", "signature": ""}]',
             '[{"site": "a", "answers": 1, "hash": "", "signature": "", "more": 1}]', "[3]"]
)  # fmt: skip
def test_what_is_no_list_of_heads_is_refused(text: object) -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        read_heads(text)
