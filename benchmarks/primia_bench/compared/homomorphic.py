"""Homomorphic sums (CKKS by TenSEAL, Paillier for a head) beside masked and plain ones.

Sites share one secret key and encrypt their updates; the coordinator adds ciphertexts; any site
decrypts the sum. Measured: bytes a site, seconds to encrypt, to add and to decrypt, and the error
of the mean. And the break: a site and the coordinator together decrypt everybody's own update,
because every ciphertext is under the key that every site has. So this is no secure aggregation
here, and a site whose policy requires that refuses it. Compared, not recommended.

    python -m primia_bench.compared.homomorphic --output results/compared_homomorphic.json

Needs the extra [compared]. Source: Aono et al. 2017, Privacy-preserving deep learning via
additively homomorphic encryption (there: Paillier and LWE).
"""

import argparse
import secrets
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_bench.machine import describe_machine, publish
from primia_flwr.secagg.payload.fixed_point import FixedPoint
from primia_flwr.secagg.payload.masks import add_masks, mask_key

CLIP, IMAGES, MOST = 32.0, (300, 500, 400), 1000  # MOST: aggregation.max_weight
DEGREE, MODULI, SCALE = 8192, (60, 40), 2.0**40
Updates = list[npt.NDArray[np.float32]]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call gives and the seconds that it takes."""
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


def true_mean(updates: Updates) -> npt.NDArray[np.float64]:
    """Return the mean weighted by images, in float64."""
    return np.average(np.asarray(updates, dtype=np.float64), axis=0, weights=IMAGES)


def ckks(updates: Updates) -> dict[str, Any]:
    """Add CKKS ciphertexts of the weighted updates; decrypt the sum, and then a single site's."""
    import tenseal as ts

    context = ts.context(ts.SCHEME_TYPE.CKKS, DEGREE, coeff_mod_bit_sizes=list(MODULI))
    context.global_scale = SCALE
    slots, total = DEGREE // 2, sum(IMAGES)

    def encrypt(update: npt.NDArray[np.float32], images: int) -> list[bytes]:
        weighted = update.astype(np.float64) * (images / total)
        parts = np.array_split(weighted, range(slots, len(weighted), slots))
        return [ts.ckks_vector(context, part).serialize() for part in parts]

    def add(sent: list[list[bytes]]) -> list[Any]:
        vectors = [[ts.ckks_vector_from(context, blob) for blob in of_site] for of_site in sent]
        return [first + second + third for first, second, third in zip(*vectors, strict=True)]

    def decrypt(vectors: list[Any]) -> npt.NDArray[np.float64]:
        return np.concatenate([np.array(vector.decrypt()) for vector in vectors])

    pairs = list(zip(updates, IMAGES, strict=True))
    sent, encrypting = timed(lambda: [encrypt(u, n) for u, n in pairs])
    summed, adding = timed(lambda: add(sent))
    mean, decrypting = timed(lambda: decrypt(summed))
    # the coordinator hands one site's ciphertext to another site, whose key opens it
    stolen = decrypt([ts.ckks_vector_from(context, blob) for blob in sent[0]])
    stolen = stolen * (total / IMAGES[0])
    return {
        "bytes_a_site": sum(map(len, sent[0])),
        "seconds_to_encrypt_a_site": encrypting / len(updates),
        "seconds_to_add": adding,
        "seconds_to_decrypt": decrypting,
        "largest_error_of_the_mean": float(np.abs(mean - true_mean(updates)).max()),
        "error_of_a_single_sites_update_opened_by_another": float(
            np.abs(stolen - updates[0]).max()
        ),
    }


def masked(updates: Updates) -> dict[str, Any]:
    """Add masked fixed-point vectors, as `aggregation=secure` does: two masks a site of three."""
    point = FixedPoint(CLIP, len(updates))
    ratios = [images / MOST for images in IMAGES]
    shared = {pair: secrets.token_bytes(32) for pair in ((0, 1), (0, 2), (1, 2))}

    def encode(site: int) -> npt.NDArray[np.uint32]:
        vector = np.zeros(len(updates[site]), np.uint32)
        point.encode(updates[site], ratios[site], vector)
        signed = [
            (mask_key(secret, b"bench"), 1 if site == pair[0] else -1)
            for pair, secret in shared.items()
            if site in pair
        ]
        add_masks(vector, signed)
        return vector

    sent, masking = timed(lambda: [encode(site) for site in range(len(updates))])
    total, adding = timed(lambda: sent[0] + sent[1] + sent[2])
    mean = np.empty(len(updates[0]), np.float64)
    _, decoding = timed(lambda: point.decode(total, sum(ratios), mean))
    alone = np.empty(len(updates[0]), np.float64)
    point.decode(sent[0], ratios[0], alone)
    return {
        "bytes_a_site": sent[0].nbytes,
        "seconds_to_encrypt_a_site": masking / len(updates),
        "seconds_to_add": adding,
        "seconds_to_decrypt": decoding,
        "largest_error_of_the_mean": float(np.abs(mean - true_mean(updates)).max()),
        "error_of_a_single_sites_update_opened_by_another": float(np.abs(alone - updates[0]).max()),
    }


def paillier(entries: int, bits: int) -> dict[str, Any]:
    """Encrypt a head's entries one by one; the cost of more follows from it."""
    from phe import paillier as scheme

    public, private = scheme.generate_paillier_keypair(n_length=bits)
    rng = np.random.default_rng(0)
    updates = [rng.normal(scale=0.01, size=entries) for _ in IMAGES]
    sent, encrypting = timed(lambda: [[public.encrypt(float(v)) for v in u] for u in updates])
    summed, adding = timed(lambda: [sum(column) for column in zip(*sent, strict=True)])
    found, decrypting = timed(lambda: [private.decrypt(value) for value in summed])
    return {
        "bits": bits,
        "entries": entries,
        "bytes_a_site": entries * 2 * bits // 8,
        "seconds_to_encrypt_a_site": encrypting / len(updates),
        "seconds_to_add": adding,
        "seconds_to_decrypt": decrypting,
        "largest_error_of_the_sum": float(np.abs(np.array(found) - np.sum(updates, axis=0)).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--entries", type=int, default=1_000_000, help="of an update")
    parser.add_argument("--head", type=int, default=64, help="entries that Paillier encrypts")
    parser.add_argument("--bits", type=int, default=2048, help="of Paillier's modulus")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    updates = [rng.normal(scale=0.01, size=given.entries).astype(np.float32) for _ in IMAGES]
    float32 = 4 * given.entries
    rows = {"ckks": ckks(updates), "masked": masked(updates)}
    for row in rows.values():
        row["bytes_over_float32"] = row["bytes_a_site"] / float32
    result = {
        "benchmark": "compared_homomorphic",
        "entries": given.entries,
        "ckks_parameters": {"degree": DEGREE, "moduli_bits": MODULI, "scale": SCALE},
        "bound_of_the_error": CLIP * 2.0**-20,
        "rows": rows,
        "paillier_head": paillier(given.head, given.bits),
        "machine": describe_machine(),
    }
    publish(result, given.output)


if __name__ == "__main__":
    main()
