"""The process of a message is forked from one that has imported everything but the app itself."""

import json
import subprocess
import sys

from primia_flwr.config.root import app_root

# As the gate does it: the site's own modules are dropped before the app's are loaded.
CODE = """
import gc, importlib, json, pkgutil, sys
import primia_flwr.site.preloaded
for name in [name for name in sys.modules if name.split(".")[0] == "primia_flwr"]:
    del sys.modules[name]
before = set(sys.modules)
import clients.client_app, clients.handlers, torch
for found in pkgutil.iter_modules(clients.handlers.__path__):
    importlib.import_module(f"clients.handlers.{found.name}")
new = {name.split(".")[0] for name in set(sys.modules) - before}
before, weight = set(sys.modules), torch.nn.Parameter(torch.ones(2))
optimiser = torch.optim.Adam([weight])
optimiser.zero_grad()
weight.sum().backward()
optimiser.step()
late = sorted(name for name in set(sys.modules) - before if "torch._dynamo" in name)
print(json.dumps([sorted(new), late, gc.get_freeze_count()]))
"""


def test_a_message_imports_the_app_and_nothing_else() -> None:
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=app_root(), capture_output=True, check=True)
    new, late, frozen = json.loads(done.stdout)
    assert late == []  # nor does an optimiser import the compiler
    assert set(new) <= {"clients", "primia_flwr", "cryptography"}
    assert frozen > 100_000  # the collector leaves PyTorch's objects alone
