"""Images changed by little so that a model errs: FGSM and PGD on a run's final model.

`perturbation` finds the changes, `report` writes down what they did. Imports the library; the
command line imports it.
"""
