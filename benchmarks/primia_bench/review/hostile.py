"""A row's run at provisioned sites in this process; the coordinator is the attacker.

What stands at a site is the product's: kit, policy, the gate's judgement, the ClientApp. The
coordinator is `tests.security.lab`, which drives the protocol by hand and sends what it likes.
A hospital's policy is the strictest one that admits the row at all.
"""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import yaml
from flwr.app import ConfigRecord, RecordDict

import clients.handlers.train as plain_handler
from clients.mods import dp_update
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import to_yaml
from primia_flwr.errors import PolicyRefusal, ProtocolError
from primia_flwr.messages import relay as relay_wire
from primia_flwr.messages import secure as wire
from primia_flwr.messages import sharing
from primia_flwr.messages.packing import unpack
from primia_flwr.secagg.payload.layout import Layout
from primia_flwr.secagg.protocol.server import ServerInstance
from primia_flwr.secagg.protocol.wire import KeysRequest, RelayHop, encode
from primia_flwr.site.authorisation import Request, judge
from primia_flwr.site.bundle.contents import sha256
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import load_policy
from primia_flwr.tasks.classification import TASK
from strategies.aggregators.secure.plausibility import check_plausible
from tests.security.lab import Lab, Refused, content_of, fresh_model, size_of

SITES = ("munich", "paris", "london", "oslo")
VICTIM = SITES[0]
_CLEAR, _RELAYED = {"require_secure_aggregation": "false"}, {"allow_relay": "yes"}
_POLICIES: tuple[Mapping[str, str], ...] = (
    {}, _CLEAR, {"allow_relay": "private"}, _RELAYED,
    {**_CLEAR, "allow_relay": "private"}, {**_CLEAR, **_RELAYED},
)  # fmt: skip
_PRIVATE = {
    "max_epsilon": "8", "privacy_delta": "1e-3", "patient_pattern": "'^(?P<patient>.+[.])'",
}  # fmt: skip
_SMALL = ("privacy.expected_batch=4", "privacy.steps=1")
_SAMPLE = 1000
_WHOLE, _SOME = 0.9, 0.02  # of a model's numbers: found in bytes by chance are fewer
SEEN, SEEN_IN_PART, NOISE, NOT_REFUSED = "seen", "a part is seen", "the sum is noise", "not refused"
NOISED = ", with its noise"


class Scene:
    """One row at four sites that were never asked anything.

    Attributes
    ----------
    policy : mapping of str to str
        What a hospital has to write into its policy for this row, beside data and bundle.
    """

    def __init__(self, lab: Lab, overrides: Sequence[str]) -> None:
        private = any(word.startswith("privacy=") for word in overrides)
        single = "strategy=single" in overrides
        rounds = f"federation.rounds={1 if single else 3}"
        self.lab, self._number = lab, 0
        self.experiment: Experiment = lab.experiment(
            *overrides, rounds, *(_SMALL if private else ())
        )
        self.model = fresh_model(self.experiment)
        self._trained: list[Any] = []
        self.policy = self._strictest(_PRIVATE if private else {})

    def _strictest(self, private: Mapping[str, str]) -> dict[str, str]:
        for also in _POLICIES:
            policy = {**private, **also}
            self.lab.reset(policy)
            if not self.judged(self.told()):
                return policy
        raise RuntimeError(f"no policy admits the run: {self.judged(self.told())}")

    def reset(self) -> None:
        """Have the sites forget all that they were asked."""
        self.lab.reset(self.policy)

    # --- What a site is told ---------------------------------------------------------------------

    def told(self, **changes: Any) -> str:
        """Return the run's text with keys changed, `section__key`, whatever a run may ask."""
        content = yaml.safe_load(to_yaml(self.experiment))
        for name, value in changes.items():
            section, key = name.split("__")
            content[section][key] = value
        return yaml.safe_dump(content)

    def judged(self, text: str, bundle: bytes | None = None) -> str:
        """Return why the victim's gate refuses a training, or nothing."""
        content = self.lab.bundle.content if bundle is None else bundle
        described, digest = self.lab.described, sha256(content)
        request = Request(
            content, (digest, digest), described.app_id, described.version, "flwr-serverapp",
            "train", {"config": text},
        )  # fmt: skip
        try:
            judge(request, load_policy(self.lab.policy_file(VICTIM)))
        except PolicyRefusal as refusal:
            return str(refusal)
        return ""

    def other_bundle(self) -> bytes:
        """Return the approved bundle with one line more in the site's half."""
        out = BytesIO()
        with (
            zipfile.ZipFile(BytesIO(self.lab.bundle.content)) as old,
            zipfile.ZipFile(out, "w") as new,
        ):
            for name in old.namelist():
                more = b"\n# one line more\n" if name == "clients/client_app.py" else b""
                new.writestr(name, old.read(name) + more)
        return out.getvalue()

    # --- What a site answers ---------------------------------------------------------------------

    def reason(self, refused: Refused) -> str:
        """Return why: what the gate says, or what a site's own log says last."""
        if refused.before:
            return refused.reason
        failed = [
            entry
            for site in SITES
            if (file := load_policy(self.lab.policy_file(site)).log_file).exists()
            for entry in SiteLog(file).entries()
            if entry.event == "failed"
        ]
        last = max(failed, key=lambda entry: entry.time)
        return str(last.details["reason"])

    def content(self, model: Mapping[str, Any] | None = None, number: int = 1) -> RecordDict:
        """Return what a round sends of a model."""
        more = {}
        if self.experiment.aggregation.shares_a_part:
            more[sharing.SINCE] = [0] * len(SITES)
        return content_of(self.model if model is None else model, number, **more)

    def asked(
        self, site: str, content: RecordDict, text: Experiment | str | None = None
    ) -> RecordDict | Refused:
        """Ask one site in the clear to train."""
        return self.lab.send(site, "train", content, self.experiment if text is None else text)

    def vectors(
        self, content: RecordDict, told: Mapping[str, Experiment]
    ) -> tuple[ServerInstance, Refused | None]:
        """Ask sites for masked vectors; return the coordinator's side, and the first refusal."""
        self._number += 1
        server, answers = self.lab.vectors(self._number, told, "train", content, self._layout())
        refused = [answer for answer in answers.values() if isinstance(answer, Refused)]
        return server, refused[0] if refused else None

    def summed(
        self, content: RecordDict, told: Mapping[str, Experiment] | None = None
    ) -> str | Refused:
        """Have a sum over sites opened; say what it is, or who refused."""
        told = told or dict.fromkeys(SITES, self.experiment)
        server, refused = self.vectors(content, told)
        totals = refused or self.lab.unmask(server, told)
        return totals if isinstance(totals, Refused) else self._read(totals, len(told))

    def _read(self, totals: list[Any], sites: int) -> str:
        layout = self._layout()
        try:
            check_plausible(layout, totals, layout.numbers_of(totals), sites, task=TASK)
        except ProtocolError:
            return NOISE
        return NOT_REFUSED

    def _layout(self) -> Layout:
        return wire.report_layout(self.experiment, size_of(self.model), 2)

    # --- Sealed relays ---------------------------------------------------------------------------

    def hop_keys(self) -> dict[str, bytes]:
        """Return each site's key of the first cycle."""
        asked = {relay_wire.KEYS: encode(KeysRequest(1))}
        replies = {site: self.relay_query(site, asked) for site in SITES}
        return {
            site: bytes(relay_wire.relay_part(reply, relay_wire.KEYS) or b"")
            for site, reply in replies.items()
            if isinstance(reply, RecordDict)
        }

    def relay_query(self, site: str, parts: Mapping[str, bytes]) -> RecordDict | Refused:
        """Ask a site for a step of the relay."""
        content = RecordDict({relay_wire.RELAY: ConfigRecord(dict(parts))})
        return self.lab.send(site, relay_wire.QUERY, content, self.experiment)

    def hopped(
        self, hop: RelayHop, content: RecordDict, text: Experiment | str | None = None
    ) -> RecordDict | Refused:
        """Have a site train in a sealed relay: the first one, or the receiver of a hop."""
        site = VICTIM if not hop.sender else SITES[SITES.index(hop.sender) + 1]
        hop_record = ConfigRecord({relay_wire.HOP: encode(hop)})
        return self.asked(site, RecordDict({**content, relay_wire.RELAY: hop_record}), text)

    # --- What the coordinator sees ---------------------------------------------------------------

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what sites train, as it is before anything is packed, masked or sealed."""
        trains = getattr(plain_handler, "train_round")  # noqa: B009
        noisy = dp_update._NoisySteps.train

        def trained(*args: Any, **named: Any) -> Any:
            result = trains(*args, **named)
            self._trained.append(_numbers(result.state))
            return result

        def trained_privately(answer: Any) -> Any:
            state = noisy(answer)
            self._trained.append(_numbers(state))
            return state

        setattr(plain_handler, "train_round", trained)  # noqa: B010
        setattr(dp_update._NoisySteps, "train", trained_privately)  # noqa: B010
        try:
            yield
        finally:
            setattr(plain_handler, "train_round", trains)  # noqa: B010
            setattr(dp_update._NoisySteps, "train", noisy)  # noqa: B010

    def seen_in(self, reply: RecordDict) -> str:
        """Say how much of the last site's model, or of its update, is in a reply's arrays."""
        before = np.concatenate([array.ravel() for array in self.model.values()])
        model, told = self._trained[-1], _bytes_of(reply)
        parts = [_part_in(told, numbers, before) for numbers in (model, model - before)]
        if max(parts) < _SOME:
            return NOT_REFUSED
        noise = NOISED if self.experiment.privacy.promise else ""
        return (SEEN if max(parts) > _WHOLE else SEEN_IN_PART) + noise


def _numbers(state: Mapping[str, Any]) -> Any:
    return np.concatenate([value.detach().numpy().ravel() for value in state.values()])


def _bytes_of(reply: RecordDict) -> set[int]:
    """Return the 32-bit words of a reply's arrays."""
    words: set[int] = set()
    for record in reply.array_records.values():
        for array in unpack(record).values():
            raw = array.data if array.stype == "raw" else array.numpy().tobytes()
            for start in range(4):
                count = (len(raw) - start) // 4
                words |= set(np.frombuffer(raw, np.uint32, count, start).tolist())
    return words


def _part_in(told: set[int], numbers: Any, before: Any) -> float:
    own = numbers[(numbers != before) & (numbers != 0)].astype(np.float32)
    words = np.unique(own[:: max(1, own.size // _SAMPLE)].view(np.uint32))
    return sum(word in told for word in words.tolist()) / max(1, words.size)
