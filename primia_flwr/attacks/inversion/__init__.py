"""Gradient inversion: images from what a coordinator received.

`targets` says what there is to attack, `labels`, `gradients`, `descent` and `inversion` search,
`runner` does it for a run; `scoring` judges, `page` and `pictures` show. Imports training, runs
and reporting; `attacks.crafted` and `cli/analysis` import it.
"""
