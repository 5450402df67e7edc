"""What a SuperLink that is killed still knows: with its database all, in memory nothing."""

import os
import signal
from pathlib import Path

import pytest

from primia_flwr.flower.superlink import SuperLink, SuperLinkFiles, superlink_arguments
from primia_flwr.processes.children import free_port
from primia_flwr.provisioning.federation import Plan, provision
from primia_flwr.provisioning.nodes import register_sites, registered_nodes


@pytest.mark.parametrize("durable", [True, False])
def test_keys_outlive_a_kill_in_a_database_alone(durable: bool, tmp_path: Path) -> None:
    port = free_port()
    plan = Plan(name="kept", sites=["berlin", "bonn"], server="127.0.0.1", port=port)
    federation = provision(plan, tmp_path / "federation")
    link = SuperLink(
        federation.files,
        host="127.0.0.1",
        port=port,
        flower_home=tmp_path / "home",
        logs=tmp_path / "logs",
        durable=durable,
    )
    try:
        link.flower_home.mkdir()
        link.start_link()
        reached = (link.address, federation.files.ca, federation.roster)
        nodes = register_sites(*reached)
        assert sorted(nodes) == ["berlin", "bonn"]
        assert link._link is not None
        os.kill(link._link.pid, signal.SIGKILL)
        link._link.stop()
        link.start_link()
        assert registered_nodes(*reached) == (nodes if durable else {})
        assert federation.files.database.exists() == durable
    finally:
        link.stop()


def test_a_database_is_the_default(tmp_path: Path) -> None:
    files = SuperLinkFiles(tmp_path)
    kept = superlink_arguments(files, host="127.0.0.1", port=1)
    assert kept[kept.index("--database") + 1] == str(tmp_path / "superlink.db")
    forgotten = superlink_arguments(files, host="127.0.0.1", port=1, durable=False)
    assert set(kept) - set(forgotten) == {"--database", str(tmp_path / "superlink.db")}
