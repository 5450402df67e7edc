"""Membership inference: whether a patient was in the training of a run's final model.

Shadow models (`shadow_*`) are trained as the run was, `lira` and `confidence` score, `detection`
and `dp_line` judge, `report` shows. Imports training, data and reporting; `cli/analysis` imports
it.
"""
