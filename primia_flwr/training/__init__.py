"""Training and evaluation of one model on one machine's images; nothing of Flower in it.

`plan` says which steps, `fit` takes them, `private` takes noisy ones, `evaluate` scores, `stopping`
ends them. Imports data, tasks and privacy; the pipeline, the attacks and both apps import it.
"""
