"""A site's ledger as one request sees it: what it may still spend, and what it has."""

from collections.abc import Set

from clients.site.identity import SecureSite
from clients.site.opened import OpenSite
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.data.names import key_of
from primia_flwr.errors import DataError, PrivacyBudgetError
from primia_flwr.messages.ledger_heads import FILE, LedgerHead, LedgerHeads, read_heads
from primia_flwr.privacy.accounting.events import AnyEvent
from primia_flwr.privacy.accounting.run_plan import RunPlan, Wish
from primia_flwr.privacy.ledger.allowance import check_limits, taking_part
from primia_flwr.privacy.ledger.ledger import Ledger, Receipt
from primia_flwr.privacy.mechanisms.connected import Connected
from primia_flwr.privacy.mechanisms.units import units_of
from primia_flwr.training.private import known_by


class Account:
    """A site's ledger for one request, which `instance` and `request` name.

    `images`: the site's of all patients whose own limit lets the run through. Training and
    validation images are one, because who is held out depends on all the others. `units`: how many
    there are, a public number.
    """

    def __init__(
        self, site: OpenSite, member: SecureSite, *, instance: int, request: bytes
    ) -> None:
        images = site.data.train.joined(site.data.val)
        _check_claim(site)
        self._site, self._unit = site, site.budget.unit
        _check_digests(images)
        self._member, self._run = member.member, member.member.session.run
        self.units = self._count(images)  # known before a ledger begins
        self.images = self._within_limits(images)
        self._names, self._digests = known_by(self._unit, self.images)
        self.units = self._count(self.images)
        self._instance, self._request = instance, request
        self.heads = LedgerHeads(self._member.session, [site.budget.folder / FILE])

    def _count(self, images: LabelledImages) -> int:
        return len(units_of(self._unit, images.patients, images.digests))

    def _within_limits(self, images: LabelledImages) -> LabelledImages:
        """Leave out whoever allows less than the run may cost."""
        limits = self._site.limits
        if not limits:
            return images
        with self.ledger() as ledger:
            epsilon = self._site.experiment.privacy.epsilon
            inside = taking_part(ledger, limits, run=self._run, epsilon=epsilon)
        return without_patients(images, limits.keys() - inside)

    def ledger(self) -> Ledger:
        """Open the site's ledger, for a moment."""
        budget = self._site.budget
        return Ledger.open(
            budget.folder,
            site=self._site.name,
            unit=self._unit,
            delta=budget.delta,
            ceiling=budget.ceiling,
            units=self.units,
        )

    def check_witnesses(self, ledger: Ledger, heads: object) -> None:
        """Refuse to work on an old copy of the ledger, as others remember a newer one."""
        self.heads.learn(read_heads(heads))
        known, old = self.heads.newest(self._site.name), self.heads.newest_old(self._site.name)
        if known is not None:
            ledger.check_answers(known.number, known.hash)
        if old is not None:
            ledger.check_witness(old.number, old.hash)

    def plan(self, ledger: Ledger, wish: Wish) -> RunPlan:
        """Return the plan of the run, which the ledger keeps from its first request on."""
        version = ledger.register(self._names, self._digests)
        return ledger.plan(version, run=self._run, wish=wish)

    def cover(self, ledger: Ledger, event: AnyEvent) -> None:
        """See that the run's plans cover an answer: one repetition too many is its own plan."""
        version = ledger.register(self._names, self._digests)
        ledger.cover(version, run=self._run, event=event)

    def afford(self, ledger: Ledger, *, whole: AnyEvent, this: AnyEvent) -> None:
        """Refuse the run in its first round, or this round later, if it is too dear."""
        version = ledger.register(self._names, self._digests)
        rounds = [c for c in ledger.charges() if c.run == self._run and c.instance > 0]
        events = [this if rounds else whole]
        ledger.afford(version, run=self._run, events=events)
        check_limits(ledger, self._site.limits, version, run=self._run, events=events)

    def has_begun(self, ledger: Ledger) -> bool:
        """Say whether the run was charged here for an update before."""
        return any(c.run == self._run and c.instance > 0 for c in ledger.charges())

    def charge(self, ledger: Ledger, event: AnyEvent, what: str) -> Receipt:
        """Write down what the answer costs."""
        version = ledger.register(self._names, self._digests)
        check_limits(ledger, self._site.limits, version, run=self._run, events=[event])
        return ledger.charge(
            version,
            run=self._run,
            instance=self._instance,
            request=self._request,
            event=event,
            what=what,
        )

    def stored(self, ledger: Ledger) -> bytes | None:
        """Return the bytes that were kept for this request."""
        return ledger.stored(run=self._run, instance=self._instance, request=self._request)

    def sign_head(self, ledger: Ledger) -> None:
        """Sign how many answers were paid for, and the newest, for others to remember."""
        (answers, digest), member = ledger.answers(), self._member
        signed = LedgerHead.signed(member.identity, site=member.name, answers=answers, hash=digest)
        self.heads.learn([signed])


def _check_digests(images: LabelledImages) -> None:
    """Refuse images without digests: under another name they would be new to the ledger."""
    if len(images.digests) != len(images):
        raise DataError(
            f"{len(images.digests)} digests of files for {len(images)} images; expected one for "
            "each, as the loaders give it; nothing is released"
        )


def _check_claim(site: OpenSite) -> None:
    """Refuse a run that claims something else than the site counts."""
    asked, own = site.experiment.privacy, site.budget
    if not site.simulated and not site.experiment.data.classes:
        raise PrivacyBudgetError(
            "data.classes=[]; expected the classes' names in a private run: how many are found "
            "here depends on single patients, and the size of a reply would tell it without noise"
        )
    if asked.unit != own.unit:
        raise PrivacyBudgetError(
            f"privacy.unit={asked.unit}; expected {own.unit}, which this site protects (its "
            "policy's privacy_unit)"
        )
    if asked.delta < own.delta:
        raise PrivacyBudgetError(
            f"privacy.delta={asked.delta:g}; expected at least {own.delta:g}, at which this site "
            "counts (its policy's privacy_delta)"
        )


def without_patients(images: LabelledImages, keys: Set[str]) -> LabelledImages:
    """Leave out patients, by what all spellings of a name share, and who shares an image with them.

    Raises
    ------
    PrivacyBudgetError
        If nobody is left.
    """
    names = [key_of(name) or name for name in images.patients]
    same = Connected(zip(names, images.digests, strict=True))
    out = {same.root(key) for key in keys}
    kept = [row for row, name in enumerate(names) if same.root(name) not in out]
    if not kept:
        raise PrivacyBudgetError(
            "no patient of this site allows as much as the run may cost (patient_limits); expected "
            "some; ask for a smaller epsilon"
        )
    return images if len(kept) == len(images) else images.select(kept)
