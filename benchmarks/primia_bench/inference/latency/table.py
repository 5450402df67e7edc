"""The figures to hold, and the comparison with the paper, from measured cells."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from primia_bench.inference.latency.cells import CRYPTEN, FSS

Row = dict[str, Any]
# Kaissis et al. 2021, End-to-end privacy preserving deep learning on multi-institutional medical
# imaging (PriMIA), encrypted inference by the comparisons of Ryffel et al. 2022 (AriaNN).
PAPER = {10.0: 35.0, 100.0: 47.0}
_PAPER_TEXT = (
    "Kaissis et al. 2021 (PriMIA, with the comparisons of Ryffel et al. 2022): FSS takes so much "
    "less time than SecureNN, in percent, by one-way delay in ms; other machines and another "
    "yardstick than ours, which is CrypTen's protocol over the same line"
)
_LOGITS, _PEAK_GB, _EXCHANGES = 0.02, 4.0, 61
_SENT_MB = {64: 4.0, 224: 45.0}
_DEALT_MB = {64: 130.0, 224: 1500.0}
_SECONDS = {(64, 0.0): 1.2, (64, 10.0): 2.0, (64, 100.0): 8.0, (224, 0.0): 4.0}


def bounds(rows: Sequence[Row]) -> list[Row]:
    """Return each bound with what was found; `holds` is None where nothing was measured."""
    fss = [row for row in rows if row["protocol"] == FSS]
    table = [
        _bound("exchanges", _EXCHANGES, fss, lambda row: row["exchanges"]),
        _bound("logits: largest error", _LOGITS, fss, lambda row: row["largest_logit_error"]),
    ]
    for size, most in _SENT_MB.items():
        of_size = [row for row in fss if row["size"] == size]
        sent = _bound(f"{size} px: MB sent by a party online", most, of_size, _most_sent)
        dealt = _bound(
            f"{size} px: MB of preprocessing of a party", _DEALT_MB[size], of_size, _most_dealt
        )
        table += [sent, dealt]
    large = [row for row in fss if row["size"] == 224]
    table.append(_bound("224 px: GB of peak memory, any party", _PEAK_GB, large, _peak))
    return table + [_seconds(fss, *key, most) for key, most in _SECONDS.items()]


def comparison(rows: Sequence[Row], stock: Sequence[Row]) -> Row:
    """Return how much less time fss takes than CrypTen's protocol, beside the paper's figures.

    CrypTen's triples are made while the clock runs, fss' randomness was fetched before; so it is
    judged by the seconds without what CrypTen waited for the dealer. `with_opening` has what fss
    takes between two images to get its randomness out of the store, and CrypTen's whole time.
    """
    found = []
    for row in rows:
        line = _line(row)
        others = [r for r in rows if r["protocol"] == CRYPTEN and _line(r) == line]
        if row["protocol"] != FSS or not others:
            continue
        crypten = others[0]["online_seconds"]
        alone = round(crypten - others[0]["preprocessing"]["seconds_waited_online"], 3)
        less = _less(row["online_seconds"], alone)
        opened = round(row["online_seconds"] + row["preprocessing"]["opening_seconds"], 3)
        paper = PAPER.get(row["delay_ms"]) if row["rate_mbit"] else None
        found.append(
            {
                "size": row["size"],
                "delay_ms": row["delay_ms"],
                "rate_mbit": row["rate_mbit"],
                "fss_seconds": row["online_seconds"],
                "fss_seconds_with_opening": opened,
                "crypten_seconds": crypten,
                "crypten_seconds_without_dealer": alone,
                "less_percent": _less(row["online_seconds"], crypten),
                "less_percent_without_dealer": less,
                "less_percent_with_opening": _less(opened, crypten),
                "paper_less_percent": paper,
                "at_least_the_papers": None if paper is None else less >= paper,
            }
        )
    against = [
        {
            "size": row["size"],
            "fss_seconds": row["online_seconds"],
            "stock_seconds": other["seconds"],
            "less_percent": _less(row["online_seconds"], other["seconds"]),
        }
        for row in rows
        for other in stock
        if row["protocol"] == FSS and row["rate_mbit"] is None and row["size"] == other["size"]
    ]
    papers = {f"{delay:g}": less for delay, less in PAPER.items()}
    return {
        "paper": {"what": _PAPER_TEXT, "less_percent": papers},
        "fss against protocol=crypten": found,
        "fss against CrypTen as shipped, bare loopback": against,
    }


def at_rates(rows: Iterable[Row], rates: Sequence[float]) -> list[Row]:
    """Return the seconds that fss' preprocessing would take on lines of these rates, by size."""
    found: dict[int, Row] = {}
    for row in rows:
        if row["protocol"] == FSS and row["size"] not in found:
            dealing = row["preprocessing"]
            found[row["size"]] = {
                "size": row["size"],
                "an_image": _at(rates, max(dealing["megabytes"].values())),
                "set_up_of_a_session": _at(rates, dealing["set_up_megabytes"]),
            }
    return list(found.values())


def _at(rates: Sequence[float], megabytes: float) -> dict[str, float]:
    return {f"{rate:g} Mbit/s": round(megabytes * 8 / rate, 2) for rate in rates}


def _bound(what: str, bound: float, rows: Sequence[Row], value: Callable[[Row], float]) -> Row:
    found = max((value(row) for row in rows), default=None)
    holds = None if found is None else found <= bound
    return {"what": what, "bound": bound, "found": found, "holds": holds}


def _seconds(fss: Sequence[Row], size: int, delay: float, most: float) -> Row:
    """Judge by bare loopback for no delay, by the fastest line for others; say the rest too."""
    lines = {
        _rate(row["rate_mbit"]): row
        for row in sorted(fss, key=lambda row: -(row["rate_mbit"] or 1e9))
        if row["size"] == size and row["delay_ms"] == delay
    }
    if delay == 0:
        judged = [row for row in lines.values() if row["rate_mbit"] is None]
    else:
        judged = list(lines.values())[:1]
    where = f"at {_rate(judged[0]['rate_mbit'])}" if judged else "not measured"
    entry = _bound(
        f"{size} px: seconds online, {delay:g} ms, {where}",
        most,
        judged,
        lambda row: row["online_seconds"],
    )
    opening = judged[0]["preprocessing"]["opening_seconds"] if judged else None
    rest = {name: row["online_seconds"] for name, row in lines.items() if row not in judged}
    return {**entry, "opening_seconds_on_top": opening, "on_other_lines": rest}


def _rate(rate: float | None) -> str:
    return f"{rate:g} Mbit/s" if rate else "bare loopback"


def _line(row: Row) -> tuple[int, float, float | None]:
    return row["size"], row["delay_ms"], row["rate_mbit"]


def _less(one: float, other: float) -> float:
    return round(100 * (1 - one / other), 1)


def _most_sent(row: Row) -> float:
    return max(float(value) for value in row["megabytes_sent"].values())


def _most_dealt(row: Row) -> float:
    return max(float(value) for value in row["preprocessing"]["megabytes"].values())


def _peak(row: Row) -> float:
    return max(float(value) for value in row["peak_memory_gb"].values())
