"""Scripts that measure the product: each prints one JSON object with the machine described.

The rooms are named after the product's: training, secagg, inference, privacy, attacks.
They import whatever of the product they measure, private names too; the product never
imports them, and they are not in the wheel.
"""
