"""A site's private state: comes back exactly, belongs to one experiment, the last few are kept."""

from __future__ import annotations

from pathlib import Path

import torch

from clients.site.state import RoundState, SiteState


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    state = SiteState(tmp_path, "abc", keep=3)
    tensors = {
        "fc.weight/exp_avg": torch.arange(6.0).view(2, 3),
        "fc.weight/step": torch.tensor(4.0),
    }
    state.save(1, RoundState(tensors, {"stopped_rounds": 2, "best": 0.5, "retired": True}))
    loaded = SiteState(tmp_path, "abc", keep=3).load(1)
    assert loaded.stopping == {"stopped_rounds": 2, "best": 0.5, "retired": True}
    assert loaded.optimizer.keys() == tensors.keys()
    assert all(torch.equal(loaded.optimizer[name], tensors[name]) for name in tensors)


def test_a_round_without_state_is_empty(tmp_path: Path) -> None:
    state = SiteState(tmp_path, "abc", keep=3)
    assert state.load(0) == RoundState()
    state.save(1, RoundState())
    assert state.load(1) == RoundState()
    assert state.load(2) == RoundState()


def test_another_experiment_has_its_own(tmp_path: Path) -> None:
    SiteState(tmp_path, "abc", keep=3).save(1, RoundState(stopping={"stopped_rounds": 1}))
    assert SiteState(tmp_path, "xyz", keep=3).load(1) == RoundState()


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    state = SiteState(tmp_path, "abc", keep=2)
    for number in range(1, 6):
        state.save(number, RoundState(stopping={"stopped_rounds": number}))
    kept = [number for number in range(1, 6) if state.load(number).stopping]
    assert kept == [4, 5]


def test_the_newest_is_the_last_round_that_a_site_was_in(tmp_path: Path) -> None:
    state = SiteState(tmp_path, "abc", keep=3)
    assert state.newest(7) == RoundState()
    for number in (2, 5, 9):
        state.save(number, RoundState(stopping={"stopped_rounds": number}))
    found = [state.newest(number).stopping.get("stopped_rounds") for number in (1, 2, 4, 5, 8, 99)]
    assert found == [None, 2, 2, 5, 5, 9]


def test_private_files_are_the_owners_alone(tmp_path: Path) -> None:
    SiteState(tmp_path, "abc", keep=2).save(1, RoundState())
    folder = tmp_path / "abc"
    assert folder.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())
