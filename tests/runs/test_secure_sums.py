"""What the secure sums of a run add up to, in what words, and in the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.root import app_root
from primia_flwr.errors import DataError
from primia_flwr.messages.secure import report_layout, statistics_layout
from primia_flwr.numbers import scientific
from primia_flwr.reporting.chapters.secure import headline, sheets
from primia_flwr.reporting.chapters.secure_account import account
from primia_flwr.reporting.report import write_report
from primia_flwr.runs.secure_sums import (
    EVALUATE,
    FILE,
    STATISTICS,
    TRAIN,
    SumFile,
    SumRow,
    changes,
    read_sum_file,
    read_sums,
    totals,
)
from primia_flwr.runs.sum_log import SumLog

Maker = Callable[..., Path]
SITES = ["london", "munich", "paris"]


def a_sum(number: int, kind: str = TRAIN, **given: object) -> SumRow:
    """A sum over three sites; each sent 4,040 bytes for 1,000 entries."""
    values: dict[str, object] = {
        "instance": 100 + number,
        "asked": SITES,
        "members": SITES,
        "survivors": SITES,
        "threshold": 2,
        "neighbours": 2,
        "min_survivors": 3,
        "numbers": ["weight", "incoming-confusion"],
        "entries": 1000 if kind == TRAIN else 0,
        "error_bound": 2e-6 if kind == TRAIN else 0.0,
        "bytes_up": 12_120 if kind == TRAIN else 900,
        "bytes_down": 12_600,
        "seconds": {"vectors": 1.5, "shares": 0.25, "unmask": 0.004},
    }
    return SumRow(number, kind, **{**values, **given})  # type: ignore[arg-type]


def a_run() -> list[SumRow]:
    """Statistics, two rounds, the validation of the last model."""
    statistics = a_sum(0, STATISTICS, numbers=["count", "label-counts"])
    return [statistics, a_sum(1), a_sum(2, audit_error=1e-6), a_sum(2, EVALUATE)]


def given_up(number: int, **given: object) -> SumRow:
    values = {"survivors": SITES[:2], "dropped": ["paris"], "reason": "too few sites are left"}
    return a_sum(number, **{**values, **given})


def words(rows: list[SumRow], *, one_machine: bool = False) -> dict[str, str]:
    chapters = account(rows, Experiment().task, one_machine=one_machine)
    return {chapter.title.split()[1]: " | ".join(chapter.points) for chapter in chapters}


# --- Figures -------------------------------------------------------------------------------------


def test_bytes_of_a_site_stand_beside_those_of_a_plain_update() -> None:
    row = a_sum(1)
    assert row.bytes_up_each == 4040
    assert row.plain_bytes == 4000
    assert row.upload_ratio == pytest.approx(1.01)
    assert row.bytes_down_each == 4200


def test_what_a_dropped_site_sent_counts_as_the_others() -> None:
    four = [*SITES, "vienna"]
    row = a_sum(1, asked=four, members=four, dropped=["vienna"], bytes_up=12_600)
    assert row.bytes_up_each == 4200, "12,600 over the three in the sum"
    assert row.bytes_down_each == 3150, "12,600 over the four that were asked"


def test_no_ratio_without_an_update_or_a_sum() -> None:
    assert a_sum(2, EVALUATE).upload_ratio is None
    assert given_up(1).upload_ratio is None
    assert a_sum(1).audit_ratio is None
    assert a_sum(1, audit_error=1e-6, error_bound=0.0).audit_ratio is None


def test_totals_are_the_sums_and_extremes_of_the_rows() -> None:
    four = [*SITES, "vienna"]
    larger = a_sum(3, asked=four, members=four, survivors=four, error_bound=3e-6, bytes_up=16_000)
    total = totals([*a_run(), given_up(3), larger])
    assert total.rounds == 3
    assert (total.sums, total.given_up) == (5, 1)
    assert total.smallest_sum == 3, "the two that were left of round 3 are no sum"
    assert total.error_bound == 3e-6
    assert total.audit_ratio == pytest.approx(0.5)
    assert total.upload_ratio == pytest.approx(1.01)
    assert total.bytes_up == 2 * 900 + 3 * 12_120 + 16_000
    assert total.bytes_down == 6 * 12_600


def test_a_run_without_any_sum_has_totals_too() -> None:
    total = totals([given_up(1)])
    assert (total.rounds, total.sums, total.given_up) == (0, 0, 1)
    assert total.smallest_sum is None
    assert total.error_bound is None
    assert totals([]).sums == 0


def test_a_repeated_round_counts_once() -> None:
    assert totals([a_sum(1), given_up(2), a_sum(2)]).rounds == 2


def test_changes_name_who_left_and_who_came() -> None:
    four = [*SITES, "vienna"]
    rows = [a_sum(1), given_up(2), a_sum(2), a_sum(3, survivors=["munich", "paris", "vienna"])]
    rows.append(a_sum(4, survivors=four))
    found = changes(rows)
    assert [(c.row.round, c.left, c.joined) for c in found] == [
        (3, ["london"], ["vienna"]),
        (4, [], ["london"]),
    ]


# --- The file ------------------------------------------------------------------------------------


def test_what_the_coordinator_writes_is_read_back(tmp_path: Path) -> None:
    rows = [*a_run(), given_up(3)]
    for row in rows:
        SumLog(tmp_path).add(row)
    assert read_sum_file(tmp_path) == SumFile(rows)
    assert read_sums(tmp_path) == rows


def test_no_file_is_no_sum(tmp_path: Path) -> None:
    assert read_sum_file(tmp_path) == SumFile([])


@pytest.mark.parametrize("line", ['{"round": 3, "ki', "[1]", '{"round": 3}', "null", "\x00"])
def test_an_unreadable_line_is_left_out_and_counted(tmp_path: Path, line: str) -> None:
    whole = json.dumps({**asdict(a_sum(1)), "of a later version": 1})
    (tmp_path / FILE).write_text(f"{whole}\n{line}\n")
    file = read_sum_file(tmp_path)
    assert file == SumFile([a_sum(1)], 1)
    assert ("Unreadable lines", "1") in headline(file)


def test_a_line_that_a_crash_cut_short_costs_only_itself(tmp_path: Path) -> None:
    log = SumLog(tmp_path)
    log.add(a_sum(1))
    with (tmp_path / FILE).open("a") as file:
        file.write('{"round": 2, "kind"')
    log.add(a_sum(3))
    found = read_sum_file(tmp_path)
    assert [row.round for row in found.rows] == [1, 3]
    assert found.unreadable == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(DataError, match=r"secure-sums\.jsonl cannot be read"):
        read_sum_file(tmp_path)


# --- Tables --------------------------------------------------------------------------------------


def test_tables_have_one_line_a_sum() -> None:
    who, cost, seconds = sheets(a_run())
    assert who.lines[0] == ["statistics", "3", "3", "2 of 2", "2", "–", "sum"]  # noqa: RUF001
    assert cost.lines[2] == [
        *("training 2", "4.0 kB", "4.0 kB", "1.010", "4.2 kB", "2.00e-06", "1.00e-06")
    ]
    assert cost.lines[3][2:4] == ["–", "–"]  # noqa: RUF001
    assert seconds.headings == ("Sum", "shares", "vectors", "unmask")
    assert seconds.lines[3] == ["validation 2", "0.25", "1.50", "0.00"]
    for sheet in (who, cost, seconds):
        assert {len(line) for line in sheet.lines} == {len(sheet.headings)}


def test_the_outcome_says_who_left_and_why_there_is_no_sum() -> None:
    four = [*SITES, "vienna"]
    rows = [
        given_up(1),
        a_sum(2, asked=four, members=SITES, signatures=3),
        a_sum(3, asked=four, members=four, dropped=["vienna"], signatures=3, neighbours=3),
        SumRow(4, TRAIN, 104, SITES, reason="only 2 sites sent keys"),
    ]
    lines = sheets(rows)[0].lines
    assert lines[0][2] == "0"
    assert lines[0][-2:] == ["0", "no sum: too few sites are left; dropped out: paris"]
    assert lines[1][-2:] == ["–", "sum; not ready: vienna"]  # noqa: RUF001
    assert lines[2][3:] == ["3 of 3", "2", "3", "sum; dropped out: vienna"]
    dash = "\N{EN DASH}"
    assert lines[3][2:] == ["0", dash, dash, dash, "no sum: only 2 sites sent keys"]


def test_the_headline_has_the_totals_and_leaves_out_what_nobody_measured() -> None:
    assert headline(SumFile(a_run())) == [
        ("Rounds", "2"),
        ("Sums learned", "4"),
        ("Sums given up", "0"),
        ("Fewest sites in a sum", "3"),
        ("Largest error bound", "2.00e-06"),
        ("Largest audited error", "0.500 of its bound"),
        ("Sent by the sites", "26.0 kB"),
        ("Sent to the sites", "50.4 kB"),
    ]
    assert "Largest audited error" not in dict(headline(SumFile([a_sum(1)])))
    assert scientific(None) == "\N{EN DASH}"


# --- Words ---------------------------------------------------------------------------------------


def test_what_was_seen_names_sites_and_sums() -> None:
    seen = words(a_run())["the"]
    assert "names of the 3 sites (london, munich, paris)" in seen
    assert "Pixel statistics, one sum over 3 sites: pixels, training images of each class." in seen
    assert "Training, 2 sums over 3 sites: the updates (1,000 entries), weights in the mean" in seen
    assert "one sum over 3 sites: the same numbers as in training, no updates." in seen
    assert "signatures on who is in a sum" not in seen
    assert "Given up" not in seen


def test_drops_and_given_up_sums_are_told() -> None:
    four = [*SITES, "vienna"]
    signed = a_sum(2, asked=four, members=four, dropped=["vienna"], signatures=3)
    told = words([a_sum(1, asked=four, members=four, survivors=four), given_up(2), signed])
    assert "signatures on who is in a sum (1 with dropouts)" in told["the"]
    assert "Training, 2 sums over 3 to 4 sites" in told["the"]
    assert "Given up, 1: masked vectors at most" in told["the"]
    assert "It happened here: training 2 without vienna." in told["is"]
    assert "It did not happen in this run." in words(a_run())["is"]


def test_every_number_that_travels_has_words() -> None:
    experiment = Experiment()
    train = [number.name for number in report_layout(experiment, 10, 3).numbers]
    first = [number.name for number in statistics_layout(experiment, 3).numbers]
    seen = words([a_sum(0, STATISTICS, numbers=first), a_sum(1, numbers=train)])["the"]
    for name in (*train, *first):
        assert "-" not in name or name not in seen, f"{name} stands there as it is"
    assert "votes to stop" in seen
    assert "validation images" in seen


def test_conditions_are_those_of_the_run() -> None:
    told = words([a_sum(1)])["which"]
    assert "No site works together with a coordinator that lies (max_colluding=0)" in told
    assert "No sum is over fewer than 3 sites (min_survivors=3)" in told
    assert "The smallest here was over 3." in told
    assert "the shares of 2 sites" in told
    assert "complete graph" in told
    assert "audited" not in told
    five = ["a", "b", "c", "d", "e"]
    other = a_sum(
        1, asked=five, members=five, survivors=five, neighbours=2, max_colluding=1, threshold=4
    )
    told = words([other])["which"]
    assert "At most 1 of the sites work together" in told
    assert "at least 2 others, not with all (sparse graph)" in told
    assert "not against one that lies" in told
    assert "the shares of 4 sites near it" in told
    assert "one of half or less" not in told
    assert "sparse graph" in words([a_sum(1, degree=2)])["which"], "few enough to mask with all"


def test_who_made_the_identity_keys_is_said() -> None:
    assert "made by primia provision" in words([a_sum(1)])["which"]
    told = words([a_sum(1, audit_error=1e-7)], one_machine=True)["which"]
    assert "One machine held all sites" in told
    assert "it protects no site from those who run the machine" in told
    assert "made by primia provision" not in told
    assert "The sums were audited" in told


def test_a_run_that_never_masked_makes_no_claim_about_graph_and_threshold() -> None:
    told = words([SumRow(0, STATISTICS, 1, SITES, min_survivors=3, reason="only 2 sites")])
    assert "graph" not in told["which"]
    assert "threshold" not in told["which"]
    assert "The smallest here" not in told["which"]


def test_of_buffered_rounds_it_is_said_what_the_coordinator_knows_of_each_site() -> None:
    alike = a_sum(1, ages=dict.fromkeys(SITES, 0.0))
    told = words([alike])
    assert "of 3 updates in sums 0 were of an earlier round, at most 0 rounds old" in told["the"]
    assert "different rounds' models" not in told["is"]
    told = words([alike, a_sum(2, ages=dict(zip(SITES, (0.0, 1.0, 3.0), strict=True)))])
    assert "of 6 updates in sums 2 were of an earlier round, at most 3 rounds old" in told["the"]
    assert "Sums over updates of different rounds' models, here 1: of the others'" in told["is"]
    assert "When the update of each site was ready" not in words([a_sum(1)])["the"]


def test_many_changes_are_not_all_told() -> None:
    four = [*SITES, "vienna"]
    rows = [a_sum(n, survivors=four if n % 2 else SITES) for n in range(1, 20)]
    assert "training 13 with vienna; and 6 times more" in words(rows)["is"]


def test_many_sites_are_not_all_named() -> None:
    names = [f"site-{i:02d}" for i in range(15)]
    assert "site-11 and 3 more" in words([a_sum(1, asked=names, members=names)])["the"]


def test_the_documentation_has_the_chapter_that_is_referred_to() -> None:
    assert "docs/secure-aggregation.md, 'What is not protected'" in words([a_sum(1)])["is"]
    text = (app_root() / "docs" / "secure-aggregation.md").read_text()
    assert "\n## What is not protected\n" in text


# --- The report ----------------------------------------------------------------------------------


def report_of(folder: Path, rows: list[SumRow]) -> str:
    for row in rows:
        SumLog(folder).add(row)
    return write_report(folder).read_text(encoding="utf-8")


def test_the_report_has_the_account_of_a_secure_run(make_run_folder: Maker, tmp_path: Path) -> None:
    page = report_of(
        make_run_folder(tmp_path / "r", secure_aggregation=True), [*a_run(), given_up(3)]
    )
    assert '<h2 id="secure">Secure aggregation</h2>' in page
    assert '<a href="#secure">' in page
    assert "What it could not see" in page
    assert "<td>1.010</td>" in page
    assert "no sum: too few sites are left; dropped out: paris" in page
    assert "but for the audit of this simulation" in page
    assert "No secure aggregation: plain averaging." not in page
    assert page.count("<caption>") == page.count("<table")
    assert page.count("<th ") == page.count(' scope="')


def test_an_unaudited_run_is_not_said_to_be(make_run_folder: Maker, tmp_path: Path) -> None:
    rows = [replace(row, audit_error=None) for row in a_run()]
    page = report_of(make_run_folder(tmp_path / "r", secure_aggregation=True), rows)
    assert "audit" not in page.lower().replace("audited error", "")


def test_a_deployment_and_a_trial_differ_in_who_held_the_keys(
    make_run_folder: Maker, tmp_path: Path
) -> None:
    real = make_run_folder(tmp_path / "r", secure_aggregation=True, deployment="deployment")
    assert "made by primia provision" in report_of(real, a_run())
    (real / "trial").mkdir()
    assert "One machine held all sites" in report_of(real, [])


def test_a_plain_run_keeps_its_notice_and_has_no_account(
    make_run_folder: Maker, tmp_path: Path
) -> None:
    page = report_of(make_run_folder(tmp_path / "r"), [])
    assert "No secure aggregation: plain averaging." in page
    assert 'id="secure"' not in page
    assert 'href="#secure"' not in page


def test_names_and_reasons_are_text_not_markup(make_run_folder: Maker, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "r", secure_aggregation=True)
    page = report_of(folder, [a_sum(1), given_up(2, reason="<b>x</b>", dropped=["<i>"])])
    assert "&lt;b&gt;x&lt;/b&gt;; dropped out: &lt;i&gt;" in page
    assert "<b>x" not in page
