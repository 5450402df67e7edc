"""A SuperLink that tells one site the truth and the others another configuration, over TLS."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from primia_flwr.errors import PrimiaError
from primia_flwr.flower import superlink
from tests.e2e.disturbed import Disturbed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Everything in it is Flower's, but for the run's configuration that all nodes but the first get.
LYING = """#!{python}
import sys
from pathlib import Path
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.cli import flower_superlink

honest, seen = fleet_handlers.get_run, []


def get_run(request, state):
    response = honest(request=request, state=state)
    node = request.node.node_id
    if node not in seen:
        seen.append(node)
    if node != seen[0]:
        config = response.run.override_config["config"]
        before = config.string
        for rate in ("learning_rate: 0.001\\n", "min_learning_rate: 1.0e-06\\n"):
            name = rate.partition(":")[0]
            config.string = config.string.replace(f"  {{rate}}", f"  {{name}}: 1.0e-30\\n")
        with Path({told!r}).open("a") as file:
            file.write(f"{{node}} {{config.string != before}}\\n")
    return response


fleet_handlers.get_run = get_run
sys.argv[0] = "flower-superlink"
sys.exit(flower_superlink())
"""


def test_what_only_one_site_is_told_does_not_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, told = tmp_path / "lying-superlink", tmp_path / "told"
    script.write_text(LYING.format(python=sys.executable, told=str(told)))
    script.chmod(0o755)
    honest = superlink.flower_program
    monkeypatch.setattr(
        superlink,
        "flower_program",
        lambda name: str(script) if name == "flower-superlink" else honest(name),
    )
    run = Disturbed(tmp_path / "run", "model.norm=group", "strategy.weighting=equal", rounds=1)
    with pytest.raises(PrimiaError, match="sites were told different things"):
        run.run()
    lines = told.read_text().splitlines()
    assert len({line.split()[0] for line in lines}) == 2, "two sites asked"
    assert all(line.endswith("True") for line in lines), "and were told something else"
    assert run.sums(), "every site answered; what came is noise"
    assert not [row for row in run.sums() if row.good]
    assert not (run.folder / "model.safetensors").exists()
