"""Differential privacy: what a release costs, what was spent, the noise that pays for it.

`accounting` counts, `clipping` bounds one unit, `mechanisms` add noise, `ledger` remembers for a
site. Imports the configuration, the models' layers and `storage`; training, the pipeline, the
site's app and `cli/privacy` import it.
"""
