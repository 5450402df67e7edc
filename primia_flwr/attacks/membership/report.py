"""What the membership attack leaves: `membership.json`, `.csv` and a page for people, `.html`.

Every figure of the page is in the JSON file; the CSV file holds the scores behind them, so that
another analysis needs no shadow model. The page holds no script and loads nothing.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from primia_flwr.attacks.membership.attack import MembershipAttack
from primia_flwr.attacks.membership.dp_line import DpClaim, compare
from primia_flwr.attacks.membership.lira import p_values
from primia_flwr.attacks.membership.membership import ATTACKS, LEVELS, Membership
from primia_flwr.attacks.membership.plot import roc_on_log_axes
from primia_flwr.config.experiment.privacy import SUM_MODES
from primia_flwr.data.pseudonyms import private_folder, told_patients
from primia_flwr.errors import DataError
from primia_flwr.numbers import figure, interval
from primia_flwr.plotting import Plot
from primia_flwr.reporting.page import render
from primia_flwr.storage import plain_csv
from primia_flwr.storage.atomic import PRIVATE, write_together, writing

_CHANCE, _FEW_ALARMS = 0.5, 0.01
_HEADINGS = ("AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "Best balanced accuracy")


def figures(
    attack: MembershipAttack, found: Membership, claim: DpClaim | None, *, variance: str
) -> dict[str, Any]:
    """Return the content of `membership.json`."""
    run = attack.run
    return {
        "run": str(run.folder),
        "round": run.card.round,
        "config_hash": run.card.config_hash,
        "synthetic": attack.asked.images.synthetic,
        **attack.facts(),
        "variance": variance,
        "attacks": found.to_dict(),
        "yeom_threshold": found.yeom.to_dict(),
        "answer": answer(found),
        "privacy": _against(claim, found) if claim else None,
        "notes": _notes(attack, found),
    }


def _against(claim: DpClaim, found: Membership) -> dict[str, Any]:
    compared = {
        name: compare(claim, levels[claim.unit]) for name, levels in found.detections.items()
    }
    return {
        "epsilon": claim.epsilon,
        "delta": claim.delta,
        "unit": claim.unit,
        "against_the_bound": compared,
    }


def answer(found: Membership) -> str:
    """Return whether the strongest attack tells members from others, by patient."""
    by_patient = {name: levels["patient"] for name, levels in found.detections.items()}
    name = max(by_patient, key=lambda one: by_patient[one].auc.value)
    best = by_patient[name]
    low = best.auc.low
    verdict = "Yes, better than by chance" if low is not None and low > _CHANCE else "Not shown"
    rate = best.tpr_at.get(_FEW_ALARMS)
    alarms = f"; at 1 % false alarms it finds {100 * rate.value:.0f} %" if rate else ""
    return (
        f"{verdict}: the strongest of {len(by_patient)} attacks ({ATTACKS[name][0]}) tells "
        f"patients of the training from others with an AUC of {interval(best.auc)}, where "
        f"guessing has 0.5{alarms}."
    )


def _notes(attack: MembershipAttack, found: Membership) -> list[str]:
    """Return what a reader must know to judge the figures, one sentence each."""
    site, mode = attack.asked.own_site, attack.run.experiment.privacy.mode
    said = [
        f"The attacker is the hospital {site}: shadow models are trained on halves of its own "
        "images, and the other hospitals' patients are in question."
        if site
        else "The attacker holds all images in question without knowing which were trained on; "
        "shadow models are trained on random parts of them, a patient never in two parts.",
        "Shadow models are trained in one place with the run's recipe and as many passes; the "
        "federation's averaging is not repeated.",
        "Intervals are of a bootstrap over patients with the shadow models held fixed (95 %, "
        "percentile); they say nothing about another run or other shadow models.",
        "An attack that finds little is no proof that none finds more.",
    ]
    if mode == "dp_sgd":
        said.append("Shadow models take noisy, clipped steps as the run did.")
    if mode in SUM_MODES:
        said.append(
            "The noise of the aggregate is not repeated in the shadow models, so that LiRA may be "
            "weaker here than it could be."
        )
    return said + [note for level in LEVELS if (note := _missing_rates(found, level))]


def _missing_rates(found: Membership, level: str) -> str:
    """Say which rates too few non-members leave unknown; nothing where all are known."""
    judged = found.detections["loss"][level]
    rates = [rate for rate, estimate in judged.tpr_at.items() if estimate is None]
    if not rates:
        return ""
    words = " and ".join(f"{100 * rate:g} %" for rate in rates)
    return (
        f"No rate by {level} at {words} false positives: that takes at least "
        f"{1 / max(rates):,.0f} non-members, and there are {judged.non_members}."
    )


def attacks_table(found: Membership) -> Table:
    """Return the terminal table: one row an attack and level, intervals in brackets."""
    table = Table(title="Membership inference on the final model", title_justify="left")
    table.add_column("Attack")
    table.add_column("By")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for row in _rows(found):
        table.add_row(*row)
    return table


def _rows(found: Membership) -> list[tuple[str, ...]]:
    """Return attack, level and the figures under `_HEADINGS`, as text."""
    return [
        (
            ATTACKS[name][0],
            level,
            interval(judged.auc),
            *(interval(estimate) for estimate in judged.tpr_at.values()),
            figure(judged.balanced_accuracy),
        )
        for name, levels in found.detections.items()
        for level, judged in levels.items()
    ]


def write_membership(
    folder: Path, attack: MembershipAttack, found: Membership, values: Mapping[str, Any]
) -> None:
    """Write the three files, each whole or not at all.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    content = {
        "membership.csv": _scores(attack, found),
        "membership.html": _page(found, values),
        "membership.json": json.dumps(values, indent=1) + "\n",
    }
    remedy = "expected a writable folder with free space; give one as output=<folder>"
    with writing(folder, error=DataError, remedy=remedy):
        folder.mkdir(parents=True, exist_ok=True)
        write_together({folder / name: text for name, text in content.items()}, mode=PRIVATE)


def _curves(found: Membership, level: str, claim: DpClaim | None) -> Plot:
    shown = {name: levels[level] for name, levels in found.detections.items()}
    own = claim if claim and claim.unit == level else None
    return roc_on_log_axes(f"membership-{level}", shown, claim=own)


def _page(found: Membership, values: Mapping[str, Any]) -> str:
    """Return `membership.html`."""
    privacy = values["privacy"]
    claim = DpClaim(*(privacy[k] for k in ("epsilon", "delta", "unit"))) if privacy else None
    return render(
        "membership.html",
        values=values,
        run_name=Path(str(values["run"])).name,
        headings=_HEADINGS,
        rows=_rows(found),
        bounds=_bounds(privacy) if privacy else [],
        plots=[_curves(found, level, claim) for level in LEVELS],
        levels=LEVELS,
    )


def _bounds(privacy: Mapping[str, Any]) -> list[list[str]]:
    """Return attack, false and true positive rate, the most that is allowed, and the verdict."""
    return [
        [ATTACKS[name][0], str(at["fpr"]), figure(at["tpr"]), figure(at["most_allowed"]),
         at["verdict"]]
        for name, lines in privacy["against_the_bound"].items()
        for at in lines
    ]  # fmt: skip


def _scores(attack: MembershipAttack, found: Membership) -> str:
    images = attack.asked.images
    stream = io.StringIO(newline="")
    writer = plain_csv.writer(stream)
    names = list(found.scores)
    writer.writerow(["file", "patient", "label", "member", *names, "lira_offline_p"])
    columns = [*found.scores.values(), p_values(found.scores["lira_offline"])]
    private = private_folder(attack.run.experiment.data.cache_dir)
    patients = told_patients(images.patients, synthetic=images.synthetic, private=private)
    for index, (file, patient) in enumerate(zip(images.files, patients, strict=True)):
        label = images.classes[int(images.labels[index])]
        cells = [float(column[index]) for column in columns]
        writer.writerow([file, patient, label, int(attack.asked.member[index]), *cells])
    return stream.getvalue()
