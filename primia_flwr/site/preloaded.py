"""What a message's process finds imported already: gate, Flower, PyTorch and the installed app.

No code of a bundle: one that differs from the installed app in anything is imported anew. What
lives here lives as long as the site, so the collector of garbage need not look at it again in every
message's process, which would take longer than all imports of the app.
"""

import gc
from importlib import import_module

from primia_flwr.site.bundle.own_app import import_app

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
import_app()
gc.collect()
gc.freeze()
