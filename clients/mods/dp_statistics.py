"""A site's pixel statistics in a run with differential privacy: noisy, charged for once."""

import json
from dataclasses import asdict

from flwr.app import ConfigRecord, Context, Message, MetricRecord

from clients.reply import reply_to
from clients.site.identity import open_member
from clients.site.ledger_request import Account
from clients.site.opened import OpenSite, open_site
from primia_flwr.data.size_bins import NUM_SIDE_BINS
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import keys
from primia_flwr.privacy.accounting.run_plan import Wish
from primia_flwr.privacy.mechanisms import statistics
from primia_flwr.privacy.mechanisms.units import units_of
from primia_flwr.training.private_plan import wish_of


def answer_noisy_statistics(message: Message, context: Context) -> Message:
    """Answer `query.statistics` with noisy sums over units: always the same ones in a run.

    Raises
    ------
    ProtocolError
        If the run asks for none.
    PrivacyBudgetError
        If a unit's epsilon would pass the site's ceiling.
    """
    site = open_site(context)
    noise = site.experiment.privacy.statistics_noise
    if not noise:
        raise ProtocolError(
            "query.statistics in a private run without privacy.statistics_noise; expected train: "
            "exact sums would leave this site without noise"
        )
    account = Account(site, open_member(context), instance=0, request=b"statistics")
    config = message.content.config_records.get(keys.CONFIG, ConfigRecord())
    sums = _charged_sums(site, account, noise, config.get(keys.HEADS, "[]"))
    values: dict[str, list[float] | int] = {
        "count": [float(sums.units)],
        "total": list(sums.levels),
        "total_squares": list(sums.squares),
        "label_counts": _label_counts(account, sums),
        "side_counts": [0.0] * NUM_SIDE_BINS,
        keys.NUM_VAL: 0,
    }
    metrics = MetricRecord(values)  # type: ignore[arg-type]
    heads = ConfigRecord({keys.HEADS: account.heads.to_text()})
    parts = {keys.METRICS: metrics, keys.LEDGER: heads}
    return reply_to(message, site.name, parts, outputs=len(account.images.classes))


def _charged_sums(
    site: OpenSite, account: Account, noise: float, heads: object
) -> statistics.UnitSums:
    """Return the sums of the run: drawn and charged for at the first call, then what was kept."""
    with account.ledger() as ledger:
        account.check_witnesses(ledger, heads)
        raw = account.stored(ledger)
        if raw is None:
            cost = statistics.cost(noise)
            account.plan(ledger, _wish(site, account))
            account.cover(ledger, cost)
            raw = json.dumps(asdict(_noisy_sums(site, account, noise))).encode()
            what = "noisy pixel statistics and class counts"
            ledger.store(account.charge(ledger, cost, what), raw)
        account.sign_head(ledger)
    return statistics.UnitSums(**json.loads(raw))


def _wish(site: OpenSite, account: Account) -> Wish:
    """Return the plan that the statistics are part of: the run's, or one of their own."""
    privacy = site.experiment.privacy
    if privacy.mode == "dp_sgd":
        rounds = site.experiment.federation.rounds
        return wish_of(privacy, units=account.units, num_rounds=rounds)
    return Wish((statistics.cost(privacy.statistics_noise),))


def _label_counts(account: Account, sums: statistics.UnitSums) -> list[float]:
    """Return the shares as the task counts labels: rows were shortened to a norm of 1."""
    longest = account.images.task.row_norm(len(account.images.classes))
    return [min(share * longest, float(sums.units)) for share in sums.classes]


def _noisy_sums(site: OpenSite, account: Account, noise: float) -> statistics.UnitSums:
    images, outputs = account.images, len(account.images.classes)
    rows = images.task.label_rows(images.labels, outputs).double().numpy()
    return statistics.noisy_sums(
        images.images.numpy(),
        rows / images.task.row_norm(outputs),
        units_of(site.experiment.privacy.unit, images.patients, images.digests),
        outputs=rows.shape[1],
        noise_multiplier=noise,
    )
