"""The masks that are to come off a sum, from the shares that the survivors released."""

from collections.abc import Collection, Mapping

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import KeyPair
from primia_flwr.primitives.shamir import Interpolation
from primia_flwr.secagg.protocol.agreement import Mask, Masking, commitment
from primia_flwr.secagg.protocol.wire import UnmaskReply


class Recovery:
    """Secrets of one instance, rebuilt from shares.

    Parameters
    ----------
    masking : Masking
        Of the server.
    heard : collection of str
        Whose vectors are in the sum.
    released : mapping of str to UnmaskReply
        By survivor.
    commitments : mapping of str to bytes
        To the self-mask seeds.
    """

    def __init__(
        self,
        masking: Masking,
        heard: Collection[str],
        released: Mapping[str, UnmaskReply],
        commitments: Mapping[str, bytes],
    ) -> None:
        self._masking, self._announced = masking, masking.announcement
        self._heard, self._released, self._commitments = heard, released, commitments

    def masks(self) -> list[Mask]:
        """Return each survivor's own mask, and those that it shared with one that dropped out.

        Raises
        ------
        ProtocolError
            If too few shares came, or a secret rebuilt from them is not the one that was shared.
        """
        members = self._masking.members.names
        masks = [self._self_mask(name) for name in members if name in self._heard]
        for name in members:
            if name not in self._heard:
                masks += self._pair_masks(name)
        return masks

    def _self_mask(self, name: str) -> Mask:
        holders = self._holders(name)
        shares = {x: reply.seeds[name] for x, reply in holders.items() if name in reply.seeds}
        seed = self._rebuild(name, shares)
        if commitment(seed) != self._commitments[name]:
            raise _wrong(name, "self-mask seed")
        return self._masking.self_mask(name, seed)

    def _pair_masks(self, name: str) -> list[Mask]:
        """Return the masks that the survivors added because of a client that dropped out."""
        holders = self._holders(name)
        shares = {
            x: reply.mask_keys[name] for x, reply in holders.items() if name in reply.mask_keys
        }
        pair = KeyPair.from_private(self._rebuild(name, shares))
        if pair.public != self._announced.keys[name].masking:
            raise _wrong(name, "masking key")
        heard = [peer for peer in self._masking.partners(name) if peer in self._heard]
        return [self._masking.pair_mask(name, pair, peer).negated() for peer in heard]

    def _holders(self, name: str) -> dict[int, UnmaskReply]:
        """Return what came of those that hold shares of a client, by their coordinates."""
        xs = self._announced.holders(name)
        return {x: self._released[by] for by, x in xs.items() if by in self._released}

    def _rebuild(self, name: str, shares: Mapping[int, bytes]) -> bytes:
        threshold = self._announced.threshold
        if len(shares) < threshold:
            raise ProtocolError(
                f"{len(shares)} shares of a secret of {name}; expected at least "
                f"threshold={threshold}"
            )
        return Interpolation(sorted(shares)[:threshold]).combine(shares)


def _wrong(name: str, secret: str) -> ProtocolError:
    return ProtocolError(
        f"the {secret} of {name}, rebuilt from shares, is not the one it shared; a site "
        "released a wrong share, or sealed wrong ones"
    )
