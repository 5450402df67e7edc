"""What the process of each message finds imported already: the gate, Flower, PyTorch and the like.

No code of a bundle. What lives here lives as long as the site, so the collector of garbage need not
look at it again in every message's process, which would take longer than all imports of the app.
"""

import gc
from importlib import import_module

PRELOADED = (
    "primia_flwr.site.gate",
    "primia_flwr.compat",  # torch and torchvision
    "cryptography.x509",
    "filelock",
    "randomgen",
    "safetensors.torch",
    "torchvision.transforms.v2",
)

for name in PRELOADED:
    import_module(name)
gc.collect()
gc.freeze()
