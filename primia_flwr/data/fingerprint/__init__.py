"""The fingerprint of a set of volumes: spacings, sizes and intensities, from sums that add up.

`sums` counts a volume into fixed bins, `facts` reads a fingerprint in sums over volumes, of one
site or of a federation, and `patch` suggests the size of a patch. Imports numpy; layouts, messages
and the aggregators import it.
"""
