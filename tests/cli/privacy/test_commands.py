"""`primia privacy show`, `plan` and `verify`, as a hospital types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from primia_flwr.cli.command import Command, call
from primia_flwr.cli.privacy import plan as privacy_plan
from primia_flwr.cli.privacy import show as privacy_show
from primia_flwr.cli.privacy import verify as privacy_verify
from primia_flwr.privacy.accounting.events import Gaussian, SampledGaussian
from primia_flwr.privacy.accounting.filter import SiteFilter
from primia_flwr.privacy.accounting.run_plan import Wish, spent_by
from primia_flwr.privacy.ledger.file import LEDGER
from tests.privacy.ledgers import DELTA, PATIENTS, charge, fill, open_ledger


def type_in(
    capsys: pytest.CaptureFixture[str], command: Command, *arguments: str
) -> tuple[int, str, str]:
    code = call(command, list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def last_line(out: str) -> dict[str, object]:
    return dict(json.loads(out.splitlines()[-1]))


def test_show_finds_the_ledger_of_a_site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site.yaml").write_text("site: munich\nsuperlink: fl.example.org:9391\n")
    with open_ledger(tmp_path / "state" / "privacy", ceiling=3.0) as ledger:
        first = ledger.register(PATIENTS)
        charge(ledger, first, run="run-1")
        second = ledger.register(["anna", "dan"])
        charge(ledger, second, run="run-2")
        head = ledger.head()
    code, out, err = type_in(capsys, privacy_show.COMMAND, f"site={tmp_path / 'site.yaml'}")
    found = last_line(out)
    chosen = SiteFilter.planned(epsilon=3.0, delta=DELTA).rdp
    one, two = (
        chosen.epsilon(Gaussian(noise_multiplier=20 / n**0.5).rdp(chosen.orders)) for n in (1, 2)
    )
    assert (code, err) == (0, "")
    assert (found["site"], found["unit"], found["charges"]) == ("munich", "patient", 2)
    assert found["epsilon"] == pytest.approx(two), "anna is in both"
    assert found["left"] == pytest.approx(3 - two)
    assert (found["seq"], found["head"]) == (head.seq, head.hash)
    assert found["versions"] == [
        {
            "version": version,
            "units": units,
            "charges": 1,
            "alone": pytest.approx(one),
            "worst": pytest.approx(two),
            "left": pytest.approx(3 - two),
        }
        for version, units in ((first, 3), (second, 2))
    ]
    text = " ".join(out.split())
    assert first[:12] in text
    assert "Gaussian" in text


def test_show_prints_planned_runs_and_both_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.1, steps=20)
    with open_ledger(tmp_path, ceiling=3.0) as ledger:
        version = ledger.register(PATIENTS)
        (event,) = ledger.plan(version, run="run-1", wish=Wish((run,), 3.0)).events
        charge(ledger, version, event=event)
        plan = ledger.account.runs.plans[0].plan
    code, out, _ = type_in(capsys, privacy_show.COMMAND, str(tmp_path))
    found = last_line(out)
    assert code == 0
    assert found["epsilon"] == found["by_runs"] == plan.epsilon < found["by_rdp"]
    assert found["plans"][0]["charged"] == found["plans"][0]["planned"] == 20  # type: ignore[index]
    text = " ".join(out.split())
    assert "Planned runs" in text
    assert "20 of 20" in text
    assert f"the smaller of {plan.epsilon:.4g} by planned runs as wholes" in text
    with open_ledger(tmp_path, ceiling=None) as ledger:
        charge(ledger, version, run="run-2")
    _, out, _ = type_in(capsys, privacy_show.COMMAND, str(tmp_path))
    assert last_line(out)["by_runs"] is None
    assert "something was released beyond planned runs" in " ".join(out.split())


def test_show_compares_with_a_given_ceiling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path)
    code, out, _ = type_in(capsys, privacy_show.COMMAND, str(tmp_path), "ceiling=2", "last=0")
    assert (code, last_line(out)["ceiling"]) == (0, 2.0)
    assert "noisy update" not in out


def test_show_without_a_ledger_or_a_site_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for argument in (f"ledger={tmp_path / 'none'}", f"site={tmp_path / 'site.yaml'}"):
        code, out, err = type_in(capsys, privacy_show.COMMAND, argument)
        assert (code, out, err.count("error:")) == (2, "", 1)
        assert "Traceback" not in err


def test_verify_says_whole_or_what_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path)
    code, out, err = type_in(capsys, privacy_verify.COMMAND, f"ledger={tmp_path}")
    good = last_line(out)
    assert (code, err, good["ok"], good["seq"], good["unfinished"]) == (0, "", True, 5, 0)
    seen = (f"seq={good['seq']}", f"head={good['head']}")
    content = (tmp_path / LEDGER).read_bytes()
    (tmp_path / LEDGER).write_bytes(content.replace(b"20.0", b"90.0", 1))
    code, out, err = type_in(capsys, privacy_verify.COMMAND, str(tmp_path), *seen)
    assert (code, last_line(out)["ok"]) == (1, False)
    assert "line 3 was changed" in err
    assert len(err.splitlines()) == 1


def test_verify_reads_the_data_versions_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path)
    (file,) = (tmp_path / "data").glob("*.units")
    file.write_bytes(file.read_bytes()[33:])
    code, _, err = type_in(capsys, privacy_verify.COMMAND, str(tmp_path))
    assert code == 1
    assert "was changed" in err


def test_verify_compares_with_what_the_coordinator_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, rounds=2)
    with open_ledger(tmp_path) as ledger:
        answers, digest = ledger.answers()
    assert answers == 2
    noted = (f"answers={answers}", f"head={digest}")
    assert type_in(capsys, privacy_verify.COMMAND, str(tmp_path), *noted)[0] == 0
    code, _, err = type_in(capsys, privacy_verify.COMMAND, str(tmp_path), "answers=3", noted[1])
    assert (code, "a witness has seen answer 3" in err) == (1, True)
    for wrong in (("answers=2",), ("answers=2", "seq=4", noted[1])):
        assert type_in(capsys, privacy_verify.COMMAND, str(tmp_path), *wrong)[0] == 2


def test_verify_compares_with_a_noted_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path)
    code, _, err = type_in(capsys, privacy_verify.COMMAND, str(tmp_path), "seq=9", "head=abc")
    assert code == 1
    assert "a witness has seen entry 9" in err
    code, _, err = type_in(capsys, privacy_verify.COMMAND, str(tmp_path), "seq=9")
    assert code == 2
    assert "expected both or neither" in err


def test_verify_mentions_an_unfinished_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path)
    with (tmp_path / LEDGER).open("ab") as stream:
        stream.write(b'{"bo')
    code, out, _ = type_in(capsys, privacy_verify.COMMAND, str(tmp_path))
    assert (code, last_line(out)["unfinished"]) == (0, 4)
    assert "4 bytes of an entry that nothing was released for" in " ".join(out.split())


def test_verify_needs_a_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], [f"ledger={tmp_path}"]):
        code, out, err = type_in(capsys, privacy_verify.COMMAND, *arguments)
        assert (code, out) == (2, "")
        assert "expected a folder with ledger.jsonl" in err


PLAN = ("units=1000", "batch=50", "epsilons=[2]", "epochs=[5]", "noise_multipliers=[2]")


def test_plan_is_what_the_filter_lets_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "plan.svg"
    code, out, err = type_in(capsys, privacy_plan.COMMAND, *PLAN, f"output={picture}")
    found = last_line(out)
    assert (code, err) == (0, "")
    assert (found["sampling_rate"], found["delta"], found["spent"]) == (0.05, 1e-4, 0.0)
    ((row,), (reach,)) = found["noise"], found["reach"]  # type: ignore[misc]
    assert row["steps"] == 100
    assert row["epsilon_pld"] < row["epsilon_filter"] <= 2 < 1.03 * row["epsilon_pld"]
    chosen = SiteFilter.planned(epsilon=2.0, delta=1e-4)

    def spent(noise: float, steps: int) -> float:
        event = SampledGaussian(noise_multiplier=noise, sampling_rate=0.05, steps=steps)
        plan = Wish((event,)).solve(chosen, ceiling=2.0)
        return chosen.epsilon(spent_by([plan], chosen))

    noise = row["noise_multiplier"]
    assert noise == row["noise_pld"] < 0.9 * row["noise_rdp"]
    assert spent(noise, 100) <= 2 < spent(noise - 0.01, 100)
    assert spent(2.0, reach["steps"]) <= 2 < spent(2.0, reach["steps"] + 1)
    assert picture.read_text().startswith("<?xml")


def test_plan_draws_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "plan.png"
    assert type_in(capsys, privacy_plan.COMMAND, *PLAN, f"output={picture}")[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_plan_on_top_of_a_ledger_needs_more_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, rounds=3)
    fresh = last_line(type_in(capsys, privacy_plan.COMMAND, *PLAN)[1])
    after = last_line(type_in(capsys, privacy_plan.COMMAND, *PLAN, f"ledger={tmp_path}")[1])
    assert after["delta"] == DELTA
    assert after["spent"] > 0  # type: ignore[operator]
    assert after["noise"][0]["noise_multiplier"] > fresh["noise"][0]["noise_multiplier"]  # type: ignore[index]
    assert after["reach"][0]["steps"] < fresh["reach"][0]["steps"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("delta=0.002", "privacy.delta=0.002 with 1000 units"),
        ("delta=1", "delta=1"),
        ("batch=2000", "batch=2000 with units=1000"),
        ("units=1", "units=1"),
        ("epsilons=[0]", "privacy.epsilon=0"),
        ("epsilons=[]", "epsilons has 0 entries"),
        ("epochs=[-1]", "epochs=-1"),
        ("noise_multipliers=[0]", "privacy.noise_multiplier=0"),
        ("output=plan.pdf", "expected one of .svg, .png"),
        ("output=/nowhere/plan.svg", "output=/nowhere/plan.svg cannot be written"),
        ("ledger=/nowhere", "does not exist"),
    ],
)
def test_bad_wishes_are_one_sentence(
    capsys: pytest.CaptureFixture[str], argument: str, named: str
) -> None:
    code, _, err = type_in(capsys, privacy_plan.COMMAND, *PLAN, "quiet=false", argument)
    assert code == 2
    assert named in " ".join(err.split())
    assert err.count("error:") == 1
    assert "Traceback" not in err


def test_nothing_left_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_ledger(tmp_path, ceiling=None) as ledger:
        charge(ledger, ledger.register(PATIENTS), event=Gaussian(noise_multiplier=0.5))
    code, _, err = type_in(capsys, privacy_plan.COMMAND, *PLAN, f"ledger={tmp_path}")
    assert code == 2
    assert "nothing is left of the budget" in " ".join(err.split())
