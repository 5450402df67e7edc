"""A throw-away Flower app without torch, written into a folder and built as a bundle."""

import hashlib
import os
import subprocess
from pathlib import Path

from primia_flwr.processes.children import flower_environment
from primia_flwr.processes.programs import flower_program

_PROJECT = """\
[project]
name = "light-app"
version = "1.0.0"
description = "counts"
license = {{ file = "LICENSE" }}
dependencies = ["flwr>=1.41"]

[tool.flwr.app]
publisher = "tests"
fab-format-version = 1
flwr-version-target = "1.41.0"

[tool.flwr.app.components]
serverapp = "light.server:app"
clientapp = "light.client:app"

[tool.flwr.app.config]
config = ""
rounds = 1
result = ""
nodes = 2
pause = 0.0
"""

_SERVER = """\
import json, os, time
from pathlib import Path
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

def total(reply):
    return float(reply.content["arrays"]["x"].numpy().sum())

@app.main()
def main(grid, context):
    config = context.run_config
    seen = []
    def tell():
        part = Path(config["result"] + ".part")
        part.write_text(json.dumps(seen))
        os.replace(part, config["result"])
    while len(list(grid.get_node_ids())) < config["nodes"]:
        time.sleep(0.2)
    for number in range(1, config["rounds"] + 1):
        arrays = ArrayRecord({"x": Array(np.full(4, float(number), dtype=np.float32))})
        messages = [
            Message(RecordDict({"arrays": arrays}), dst_node_id=node, group_id=str(number),
                    message_type=MessageType.TRAIN)
            for node in sorted(grid.get_node_ids())
        ]
        for reply in grid.send_and_receive(messages, timeout=60):
            seen.append({
                "round": number,
                "node": reply.metadata.src_node_id,
                "error": reply.error.reason if reply.has_error() else "",
                "sum": total(reply) if reply.has_content() else 0,
                "package": reply.content["info"]["package"] if reply.has_content() else "",
            })
        tell()
        time.sleep(config["pause"])
"""

_CLIENT = """\
import numpy as np
import primia_flwr
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    x = message.content["arrays"]["x"].numpy() * 2
    return Message(RecordDict({
        "arrays": ArrayRecord({"x": Array(x)}),
        "info": ConfigRecord({"package": primia_flwr.__version__,
                              "site": context.node_config["site"]}),
    }), reply_to=message)
"""


def write_app(folder: Path, *, marker: Path | None = None) -> Path:
    """Write the app; with `marker`, importing its client leaves that file behind."""
    app = folder / "light-app"
    (app / "light").mkdir(parents=True)
    (app / "primia_flwr").mkdir()
    (app / "LICENSE").write_text("none\n")
    (app / "pyproject.toml").write_text(_PROJECT.format())
    (app / "light" / "__init__.py").write_text("")
    (app / "light" / "server.py").write_text(_SERVER)
    trace = f"open({str(marker)!r}, 'a').write('ran')\n" if marker else ""
    (app / "light" / "client.py").write_text(trace + _CLIENT)
    (app / "primia_flwr" / "__init__.py").write_text(trace + '__version__ = "bundle"\n')
    return app


def build(app: Path, home: Path) -> Path:
    """Build the bundle and return its file."""
    done = subprocess.run(
        [flower_program("flwr"), "build", "--app", str(app)],
        cwd=app.parent,
        env=flower_environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    fabs = sorted(app.parent.glob("*.fab"), key=os.path.getmtime)
    assert fabs, done.stdout + done.stderr
    return fabs[-1]


def start_run(app: Path, home: Path, config_file: Path) -> None:
    """Submit the app to the connection `primia`."""
    done = subprocess.run(
        [flower_program("flwr"), "run", str(app), "primia", "--run-config", str(config_file)],
        cwd=home,
        env=flower_environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
