"""What may leave a site, by kind of run: the one table. `leaving_mod` holds every reply against it.

| run | `train` | `evaluate` | `query.statistics` | `query.secagg` |
| --- | --- | --- | --- | --- |
| plain, relay | update, measurements | measurements | exact sums | refused |
| secure aggregation | masked vectors | masked vectors | masked vectors | protocol's steps |
| differential privacy | noisy, masked, paid | refused | noisy, masked, paid | protocol's steps |
| sealed relay | sealed model, paid for if private | refused | refused | refused |
| relay, differential privacy | noisy, paid | refused | refused | refused |
| asynchronous | update, measurements | measurements | exact sums | refused |
| asynchronous, differential privacy | noisy, paid | refused | refused | refused |
| buffered | that it is ready | masked vectors | masked vectors | protocol's steps |

A sealed or private relay answers `query.relay`, too: a key, a model sealed anew, the last model. So
does a private asynchronous run: the site's name. A buffered run answers `query.buffer`, too: masked
vectors, of the update that the site holds.

A search adds nothing: its messages name a configuration, the replies are those of the run's kind.
A run, a message, a record or a key that is not in the table is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from flwr.app import RecordDict

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import buffered, keys, relay
from primia_flwr.messages import secure as wire

_TRAIN, _EVALUATE = "train", "evaluate"
STATISTICS, PROTOCOL = f"query.{keys.STATISTICS}", f"query.{wire.ROUTE}"
RELAY, BUFFER = relay.QUERY, buffered.QUERY

# Records that a reply may lack: a site rests, or nobody comes after it.
_MAY_LACK = {keys.ARRAYS, relay.SEALED, relay.LINEAGE}
# The records of a reply, each with the keys that it may have; None: any.
_Reply = Mapping[str, frozenset[str] | None]


@dataclass(frozen=True)
class _Leaving:
    """What may leave a site in one kind of run.

    `replies`: by type of message; all records of a reply are in it, but for arrays, which a site
    that rests or declines has none of. `masked`: only sums over sites are seen. `noised`: nothing
    leaves without noise. `own_noise`: each update is private by itself, not their sum only.
    `holds`: a site keeps its update until it is asked for it as a part of a sum. `may_rest`: a
    site may leave a round to others, which in a sum would show more of them. `says_why`: a
    simulated site says why it diverged. `progress`: what a simulated site shows to its researcher
    while it trains.
    """

    replies: Mapping[str, _Reply]
    masked: bool = True
    noised: bool = False
    own_noise: bool = False
    holds: bool = False
    may_rest: bool = False
    says_why: bool = False
    progress: frozenset[str] = frozenset({"round", "batch", "batches", "images_per_second"})

    def check_asked(self, kind: str) -> None:
        """Refuse a type of message to which nothing may leave.

        Raises
        ------
        ProtocolError
            Naming those that are answered.
        """
        if kind not in self.replies:
            raise ProtocolError(
                f"{kind:.60} in a run that answers {', '.join(self.replies)}; expected one of "
                "those: to anything else nothing may leave this site"
            )

    def check_reply(self, kind: str, content: RecordDict) -> None:
        """Refuse to send a reply that is not as the table says.

        Raises
        ------
        ProtocolError
            Naming the first record or key that is too much, or missing.
        """
        allowed = self.replies[kind]
        odd = sorted(set(content) - set(allowed))
        odd += sorted(set(allowed) - _MAY_LACK - set(content))
        for name in set(content) & set(allowed):
            known = allowed[name]
            odd += [f"{name}.{key}" for key in content[name] if known and key not in known]
        if odd:
            raise ProtocolError(
                f"the reply to {kind} differs in {odd[0]:.60}; expected {', '.join(allowed)} as "
                "clients/leaving.py lists them: nothing leaves this site"
            )


_MEASURED: _Reply = {keys.METRICS: None, keys.SITE: frozenset({keys.SITE_NAME, keys.OUTPUTS})}
_NAME: _Reply = {keys.SITE: frozenset({keys.SITE_NAME})}
_STEPS: _Reply = {wire.SECAGG: frozenset({wire.KEYS, wire.SHARES, wire.SIGN, wire.UNMASK}), **_NAME}
_MASKED: _Reply = {
    wire.SECAGG: frozenset({wire.KEYS}),
    wire.MASKED: frozenset({wire.UPDATE, wire.NUMBERS}),
    **_NAME,
}
_PAID_FOR: _Reply = {**_MASKED, keys.LEDGER: frozenset({keys.HEADS})}

_PLAIN = _Leaving(
    {STATISTICS: _MEASURED, _TRAIN: {**_MEASURED, keys.ARRAYS: None}, _EVALUATE: _MEASURED},
    masked=False,
    may_rest=True,
    says_why=True,
)
_SECURE = _Leaving({PROTOCOL: _STEPS, STATISTICS: _MASKED, _TRAIN: _MASKED, _EVALUATE: _MASKED})
_BUFFERED = _Leaving({**_SECURE.replies, _TRAIN: _NAME, BUFFER: _MASKED}, holds=True)
_PRIVATE = _Leaving(
    {PROTOCOL: _STEPS, STATISTICS: _PAID_FOR, _TRAIN: _PAID_FOR},
    noised=True,
    progress=frozenset({"round", "batch", "batches"}),
)
_LINK: _Reply = {relay.LINEAGE: frozenset({relay.LINK})}
_RELAY = replace(_PLAIN, replies={**_PLAIN.replies, _TRAIN: {**_PLAIN.replies[_TRAIN], **_LINK}})
_HANDED_ON: _Reply = {relay.RELAY: frozenset({relay.KEYS}), relay.SEALED: None, **_NAME}
_SEALED = _Leaving(
    {relay.QUERY: {**_HANDED_ON, keys.ARRAYS: None}, _TRAIN: {**_HANDED_ON, **_LINK}},
    masked=False,
    says_why=True,
)
_PRIVATE_RELAY = _Leaving(
    {
        relay.QUERY: {relay.RELAY: frozenset({relay.KEYS}), **_NAME},
        _TRAIN: {
            keys.METRICS: frozenset({keys.WEIGHT}),
            keys.SITE: frozenset({keys.SITE_NAME, keys.OUTPUTS}),
            keys.ARRAYS: None,
            keys.LEDGER: frozenset({keys.HEADS}),
            **_LINK,
        },
    },
    masked=False,
    noised=True,
    own_noise=True,
    progress=_PRIVATE.progress,
)
_PRIVATE_SEALED = replace(
    _PRIVATE_RELAY,
    replies={
        relay.QUERY: _SEALED.replies[relay.QUERY],
        _TRAIN: {**_HANDED_ON, **_LINK, keys.LEDGER: frozenset({keys.HEADS})},
    },
)
_PRIVATE_ASYNCHRONOUS = replace(
    _PRIVATE_RELAY,
    replies={
        relay.QUERY: _PRIVATE_RELAY.replies[relay.QUERY],
        _TRAIN: {k: v for k, v in _PRIVATE_RELAY.replies[_TRAIN].items() if k != relay.LINEAGE},
    },
)
# By aggregation.name and privacy.mode. A private run is masked, or has noise at each site.
_TABLE = {
    ("plain", "none"): _PLAIN,
    ("relay", "none"): _RELAY,
    ("sealed relay", "none"): _SEALED,
    ("relay", "dp_sgd"): _PRIVATE_RELAY,
    ("sealed relay", "dp_sgd"): _PRIVATE_SEALED,
    ("asynchronous", "none"): _PLAIN,
    ("asynchronous", "dp_sgd"): _PRIVATE_ASYNCHRONOUS,
    ("buffered", "none"): _BUFFERED,
    ("secure", "none"): _SECURE,
    ("secure", "dp_sgd"): replace(_PRIVATE, own_noise=True),
    # How many batches there are follows from how many images.
    ("secure", "dp_aggregate"): replace(_PRIVATE, progress=frozenset()),
    ("secure", "dp_sgd_shared"): _PRIVATE,
}


def leaving(experiment: Experiment) -> _Leaving:
    """Return what may leave a site in a run of an experiment.

    Raises
    ------
    ProtocolError
        If the table has no such run.
    """
    run = (experiment.aggregation.way, experiment.privacy.mode)
    if run not in _TABLE:
        raise ProtocolError(
            f"aggregation.name={run[0]} with privacy.mode={run[1]}; expected one of "
            f"{', '.join(' with '.join(row) for row in _TABLE)}: of another run nothing may leave"
        )
    return _TABLE[run]
