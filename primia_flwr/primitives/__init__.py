"""Small cryptographic parts that more than one protocol uses: Shamir, Merkle trees, keys.

Bytes and integers only: no torch, no Flower, no configuration. Imports errors alone;
`secagg`, `inference` and `messages` import it.
"""
