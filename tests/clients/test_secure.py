"""The steps of the protocol that need no data are cheap: a SuperNode starts a process for each."""

import subprocess
import sys

_STEP = """
import sys
from clients.client_app import app
from clients.secure import answer_protocol
from primia_flwr.secagg.vault import Vault
heavy = {"torch", "torchvision", "sklearn", "scipy", "pandas", "matplotlib"} & set(sys.modules)
print(sorted(heavy))
"""


def test_a_step_without_data_imports_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", _STEP], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
