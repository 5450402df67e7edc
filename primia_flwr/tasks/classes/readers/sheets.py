"""The tables of a comparison of readers."""

from __future__ import annotations

from primia_flwr.statistics.arrays import IntArray
from primia_flwr.tables import INTERVAL, NUMBER, P_VALUE, TEXT, Cell, Sheet
from primia_flwr.tasks.classes.readers.compared import Compared


def sheets(found: Compared) -> list[Sheet]:
    """Return the tables that the comparison has rows for."""
    made = [
        _figures(found),
        _classes(found),
        _mcnemar(found),
        _kappa(found),
        _differences(found),
        _calibration(found),
        _points(found),
        _subgroups(found),
    ]
    return [sheet for sheet in made if sheet.rows]


def _figures(found: Compared) -> Sheet:
    columns = (
        ("Reader", "reader", TEXT),
        ("Kind", "kind", TEXT),
        ("Accuracy", "accuracy", INTERVAL),
        ("MCC", "mcc", INTERVAL),
        ("ROC-AUC", "roc_auc", INTERVAL),
        ("κ with the truth", "kappa", INTERVAL),
    )
    rows: list[tuple[Cell, ...]] = []
    for reader in found.panel.readers:
        of = found.figures[reader.name]
        truth = found.kappa_with_truth[reader.name]
        rows.append((reader.name, reader.kind, of.accuracy, of.mcc, of.roc_auc, truth))
    return Sheet("figures", "Each reader, all classes", columns, rows)


def _classes(found: Compared) -> Sheet:
    columns = (
        ("Class", "class", TEXT),
        ("Reader", "reader", TEXT),
        ("Images", "images", NUMBER),
        ("Sensitivity", "sensitivity", INTERVAL),
        ("Specificity", "specificity", INTERVAL),
        ("ROC-AUC", "roc_auc", INTERVAL),
    )
    labels: IntArray = found.panel.labels
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            reader,
            int((labels == k).sum()),
            of.sensitivity[name],
            of.specificity[name],
            of.roc_auc_per_class.get(name),
        )
        for k, name in enumerate(found.panel.classes)
        for reader, of in found.figures.items()
    ]
    return Sheet("classes", "Each class against all others", columns, rows)


def _mcnemar(found: Compared) -> Sheet:
    columns = (
        ("First", "first", TEXT),
        ("Second", "second", TEXT),
        ("Only first right", "only_first", NUMBER),
        ("Only second right", "only_second", NUMBER),
        ("Patients who differ", "differing_patients", NUMBER),
        ("Smallest p possible", "smallest_p", P_VALUE),
        ("p by patient", "p", P_VALUE),
        ("p, Holm", "p_holm", P_VALUE),
    )
    rows: list[tuple[Cell, ...]] = []
    for pair in found.pairs:
        test = pair.mcnemar
        counts = (test.only_first, test.only_second, test.differing_patients)
        rows.append((pair.first, pair.second, *counts, test.smallest_p, test.p, pair.p_holm))
    caption = "McNemar's test by patient: are two readers right equally often?"
    return Sheet("mcnemar", caption, columns, rows)


def _kappa(found: Compared) -> Sheet:
    columns = (("First", "first", TEXT), ("Second", "second", TEXT), ("κ", "kappa", INTERVAL))
    rows: list[tuple[Cell, ...]] = [(p.first, p.second, p.kappa) for p in found.pairs]
    return Sheet("kappa", "Cohen's kappa: how far do two readers agree?", columns, rows)


def _differences(found: Compared) -> Sheet:
    columns = (
        ("First", "first", TEXT),
        ("Second", "second", TEXT),
        ("Accuracy", "accuracy", INTERVAL),
        ("MCC", "mcc", INTERVAL),
        ("ROC-AUC", "roc_auc", INTERVAL),
        ("p of the areas", "roc_auc_p", P_VALUE),
        ("p, Holm", "roc_auc_p_holm", P_VALUE),
    )
    rows: list[tuple[Cell, ...]] = []
    for pair in found.pairs:
        shown = (pair.accuracy_difference, pair.mcc_difference, pair.area_difference)
        rows.append((pair.first, pair.second, *shown, pair.area_p, pair.area_p_holm))
    return Sheet("differences", "Differences, first minus second", columns, rows)


def _calibration(found: Compared) -> Sheet:
    columns = (
        ("Model", "model", TEXT),
        ("ECE", "ece", NUMBER),
        ("Brier", "brier", NUMBER),
        ("Cross-entropy", "nll", NUMBER),
        ("Temperature", "temperature", NUMBER),
        ("ECE with it", "ece_fitted", NUMBER),
        ("Brier with it", "brier_fitted", NUMBER),
        ("Cross-entropy with it", "nll_fitted", NUMBER),
    )
    rows: list[tuple[Cell, ...]] = []
    for name, of in found.calibration.items():
        fitted = of.fitted
        after: tuple[Cell, ...] = (
            (fitted.ece, fitted.brier, fitted.nll) if fitted else (None, None, None)
        )
        as_is = (of.as_is.ece, of.as_is.brier, of.as_is.nll)
        rows.append((name, *as_is, of.temperature, *after))
    return Sheet("calibration", "Calibration of the probabilities", columns, rows)


def _points(found: Compared) -> Sheet:
    columns = (
        ("Model", "model", TEXT),
        ("Question", "question", TEXT),
        ("Threshold", "threshold", NUMBER),
        ("Chosen on", "chosen_on", TEXT),
        ("Sensitivity", "sensitivity", INTERVAL),
        ("Specificity", "specificity", INTERVAL),
    )
    rows: list[tuple[Cell, ...]] = [
        (name, p.question, p.threshold, f"{p.chosen_on} images", p.sensitivity, p.specificity)
        for name, points in found.operating_points.items()
        for p in points
    ]
    caption = f"Operating points for a sensitivity of {found.settings.demanded:g}"
    return Sheet("operating_points", caption, columns, rows)


def _subgroups(found: Compared) -> Sheet:
    columns = (
        ("Column", "column", TEXT),
        ("Group", "group", TEXT),
        ("Images", "images", NUMBER),
        ("Patients", "patients", NUMBER),
        ("Reader", "reader", TEXT),
        ("Accuracy", "accuracy", INTERVAL),
        ("MCC", "mcc", INTERVAL),
    )
    rows: list[tuple[Cell, ...]] = []
    for group in found.subgroups:
        head = (group.column, group.group, group.images, group.patients)
        if not group.accuracy:
            rows.append((*head, "fewer than 10 patients", None, None))
        rows += [(*head, name, of, group.mcc[name]) for name, of in group.accuracy.items()]
    return Sheet("subgroups", "Groups of images", columns, rows)


def missing(found: Compared) -> list[str]:
    """Return why figures have no interval or no value, one sentence each, without repetition."""
    sentences = list[str]()
    for reader, of in found.figures.items():
        named = [("accuracy", of.accuracy), ("MCC", of.mcc), ("ROC-AUC", of.roc_auc)]
        named += [(f"sensitivity of {name}", one) for name, one in of.sensitivity.items()]
        named += [(f"specificity of {name}", one) for name, one in of.specificity.items()]
        named += [(f"ROC-AUC of {name}", one) for name, one in of.roc_auc_per_class.items()]
        sentences += [
            f"{reader}, {figure}: {one.note}{f' ({one.method})' if one.method else ''}."
            for figure, one in named
            if one is not None and one.note
        ]
    return sentences
