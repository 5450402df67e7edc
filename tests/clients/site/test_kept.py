"""What a site keeps from round to round: of its own run only, and never more than it needs."""

from pathlib import Path

import numpy as np
import pytest

from clients.site.kept import KeptRounds
from primia_flwr.errors import DataError


def kept(folder: Path, run: str = "a", keep: int = 2) -> KeptRounds:
    return KeptRounds(folder, "unsent", run=run, keep=keep)


def there(folder: Path) -> list[int]:
    return sorted(int(path.stem[-6:]) for path in folder.glob("unsent-*.safetensors"))


def test_a_round_comes_back_and_old_ones_go_but_the_one_that_is_needed(tmp_path: Path) -> None:
    for number in range(1, 6):
        kept(tmp_path).save(number, {"x": np.full(2, number)}, needed=1)
    assert there(tmp_path) == [1, 4, 5]
    assert kept(tmp_path).load(4)["x"].tolist() == [4, 4]
    assert kept(tmp_path).load(3) == {}


def test_a_site_that_was_away_keeps_what_an_older_checkpoint_goes_on_from(tmp_path: Path) -> None:
    """Away from round 4 to 9; the coordinator may fall back to round 9, when 3 was the last."""
    kept(tmp_path).save(3, {"x": np.full(1, 3)})
    kept(tmp_path).save(10, {"x": np.full(1, 10)}, needed=3)
    assert there(tmp_path) == [3, 10]
    kept(tmp_path, keep=3).save(11, {"x": np.full(1, 11)}, needed=10)
    assert kept(tmp_path).load(3)["x"].tolist() == [3]


def test_what_a_longer_run_left_does_not_push_out_a_new_one(tmp_path: Path) -> None:
    for number in range(1, 10):
        kept(tmp_path, "a").save(number, {"x": np.zeros(1)})
    assert kept(tmp_path, "b").load(9) == {}, "another run's"
    kept(tmp_path, "b").save(1, {"x": np.ones(1)})
    assert there(tmp_path) == [1]
    assert kept(tmp_path, "b").load(1)["x"].tolist() == [1]


def test_it_is_for_the_sites_owner_alone(tmp_path: Path) -> None:
    kept(tmp_path / "new").save(1, {"x": np.zeros(1)})
    assert (tmp_path / "new/unsent-000001.safetensors").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "unsent-000001.safetensors").write_bytes(b"no file")
    with pytest.raises(DataError, match=r"unsent-000001.safetensors .*delete it"):
        kept(tmp_path).load(1)
