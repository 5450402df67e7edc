"""The review's table: what a lying site sends, which cells there are, what a page says of them."""

import pytest
import torch
from primia_bench.review.cells import Size, cells
from primia_bench.review.in_memory import boosted
from primia_bench.review.measured import Bench, played
from primia_bench.review.page import _of_split, _short, page
from primia_bench.review.systems import (
    APP_MOVES,
    GATE_MOVES,
    NOT_RUN,
    PLAIN,
    SECURE,
    SYSTEMS,
    System,
)

_WHY = "site munich refuses: federation.min_sites=2; expected at least 3"
MOVES = {name: {"came": "seen", "why": ""} for name in APP_MOVES} | {
    name: {"came": "refused", "why": _WHY} for name in GATE_MOVES
}


def test_a_boosted_update_is_so_many_times_as_long():
    start = {"weight": torch.tensor([1.0, 2.0]), "batches": torch.tensor(3)}
    end = {"weight": torch.tensor([1.5, 1.0]), "batches": torch.tensor(7)}
    sent = boosted(start, end, 4)
    assert sent["weight"].tolist() == [3.0, -2.0]
    assert sent["batches"].item() == 7


def test_every_row_is_scored_for_each_split_and_seed_and_the_first_seed_is_whole_first(tmp_path):
    size = Size(("iid", "dirichlet 0.3"), (1, 2, 3), more_sites=20, failing=0.25, stressed=True)
    found = [*cells(Bench(tmp_path, 10, 4, 32, 240), SYSTEMS, size)]
    scores = [cell for cell in found if cell.arm == "runs"]
    each = 2 * len(SYSTEMS)
    assert [cell.facts["seed"] for cell in scores] == [1] * each + [2] * each + [3] * each
    assert found[:each] + found[-2 * each :] == scores
    more = [cell for cell in found if cell.arm == "more_sites"]
    assert {cell.of[0].sites for cell in more} == {20}
    many = [cell for cell in found if cell.arm == "many_sites"]
    assert {(cell.of[0].sites, cell.of[0].patients, cell.of[0].rounds) for cell in many} == {
        (100, 960, 3)
    }


def test_a_page_says_what_was_not_run_and_which_runs_stopped():
    run = {"split": "iid", "mcc": 0.75, "pooled_mcc": 0.8, "bytes_a_site": 2_500_000}
    costs = {"bytes_a_site_until_enough": None, "processor_seconds": 3.6, "epsilon": None}
    stopped = {"not_run": "error: this site has trained nothing that it could hand on"}
    row = {
        "source": "Chang et al. 2018",
        "trusted": "the next hospital",
        "runs": [{**run, **costs, "seed": 1}, {**run, **costs, "seed": 2, "mcc": 0.65}],
        "seen": [{"party": "next hospital", "target": "relayed_model", "not_run": "not begun"}],
        "flipped": {"mcc": 0.5},
        "boosted": stopped,
        "failing": {"mcc": 0.25, "lost": {"before": 1, "in": 0, "after": 2}},
        "killed": {"mcc": 0.7, "same_model": False},
        "many_sites": {"mcc": 0.125, "commit": "abc"},
        "moves": {"moves": MOVES},
    }
    facts = {
        "patients": 240, "sites": 4, "size": 32, "rounds": 10, "more_sites": 20,
        "many_sites": [100, 960, 3],
    }  # fmt: skip
    found = page(
        {**facts, "failing": 0.25, "seeds": [1, 2], "splits": ["iid"], "not_run": NOT_RUN,
         "rows": {"cyclic transfer": row}}
    )  # fmt: skip
    # Differences -0.05 and -0.15: mean -0.1, half width 0.05 times 12.706 of one degree of freedom.
    assert "| cyclic transfer | Chang et al. 2018 | 0.700 (-0.100, -0.735 to +0.535) |" in found
    assert (
        "| cyclic transfer | 0.500 | the run stops | not run | 0.125 | 3 | 0.250 | another, 0.700 |"
        in found
    )
    assert "| cyclic transfer | 2.5 |  | 0 of 2 | 4 | none promised |" in found
    assert (
        "| the next hospital | next hospital (relayed_model) | not run | not run | not run |"
        in found
    )
    assert "| and boosts: cyclic transfer | this site has trained nothing" in found
    assert "| cells: 1, of 1 rows | not begun" in found
    assert "at which commit: abc." in found
    few = "| cyclic transfer | refused: federation.min_sites=2 | refused: federation.min_sites=2 |"
    assert few in found
    assert "| cyclic transfer | seen | seen | seen | seen | seen |" in found


def test_a_split_with_fewer_seeds_than_were_asked_says_so():
    run = {"split": "iid", "mcc": 0.75, "pooled_mcc": 0.8}
    said = _of_split([run, {"split": "iid", "not_run": "not begun"}], "iid")
    assert said == "0.750 (-0.050; 1 of 2 seeds)"


@pytest.mark.parametrize(
    ("why", "short"),
    [
        ("site munich refuses: federation.min_sites=2; expected at least 3",
         "federation.min_sites=2"),
        (f"site munich refuses: bundle {'ab' * 32} is not approved here; the hospital looks",
         "bundle is not approved here"),
        ("ProtocolError: the sum over london, munich, paris is asked, after sums over other sites",
         "the sum over london, munich, paris is asked, after sums ..."),
    ],
)  # fmt: skip
def test_what_a_site_says_is_shortened_without_its_name_and_hashes(why, short):
    assert _short(why) == short


def test_the_pages_columns_are_the_moves_that_are_played():
    from primia_bench.review.moves import _MOVES

    assert [*GATE_MOVES, *APP_MOVES] == list(_MOVES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "policy", "came"),
    [
        ((SECURE,), {}, {
            "another bundle": "refused", "fewer sites": "refused", "in the clear": "refused",
            "two lists": "refused", "one alone": "refused", "told otherwise": "the sum is noise",
            "crafted": "not refused",
        }),
        ((PLAIN,), {"require_secure_aggregation": "false"}, {
            "another bundle": "refused", "fewer sites": "refused", "one alone": "seen",
            "told otherwise": "not refused", "crafted": "not refused",
        }),
        (("strategy=cyclic", "aggregation.sealed=true", "data.normalisation.kind=fixed"),
         {"require_secure_aggregation": "false", "allow_relay": "yes"}, {
            "another bundle": "refused", "fewer sites": "refused", "in the clear": "not refused",
            "one alone": "refused", "told otherwise": "refused", "crafted": "not refused",
        }),
    ],
    ids=["secure", "plain", "sealed"],
)  # fmt: skip
def test_what_comes_of_a_hostile_coordinators_moves(tmp_path, words, policy, came):
    row = System("a row", "", "", words)
    found = played(Bench(tmp_path, 10, 4, 32, 240), row, [*GATE_MOVES, *APP_MOVES])
    assert found["policy"] == policy
    applies = {name: one["came"] for name, one in found["moves"].items()}
    assert {name: one for name, one in applies.items() if one != "does not apply"} == came
