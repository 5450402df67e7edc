"""What the process of each message finds imported already: the gate, Flower, PyTorch and the like.

No code of a bundle. What lives here lives as long as the site, so the collector of garbage need not
look at it again in every message's process, which would take longer than all imports of the app.
"""

import gc
from importlib import import_module

PRELOADED = (
    "PIL.TiffImagePlugin",
    "primia_flwr.site.gate",
    "primia_flwr.compat",  # torch and torchvision
    "cryptography.hazmat.backends.openssl.backend",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.x509",
    "filelock",
    "httpcore",  # which httpx imports at its first client, and trio with it
    "randomgen",
    "safetensors.numpy",
    "safetensors.torch",
    "torch._dynamo",  # which an optimiser imports at its first step
    "torchvision.transforms.v2",
)

for name in PRELOADED:
    import_module(name)
gc.collect()
gc.freeze()
