"""Training and evaluation of one model on one machine's images; nothing of Flower in it.

`plan` says which steps, `fit` takes them, `private` takes noisy ones, `evaluate` scores, `stopping`
ends them. Imports data, tasks and privacy; the pipeline, the attacks and both apps import it.
"""

import os

# What cuBLAS needs for deterministic sums; it looks when it starts, which may be before a training.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
