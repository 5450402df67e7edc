"""What the container files say: no root, nothing written, one way out. No engine is asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from primia_flwr.flower.superlink import SuperLinkFiles, superexec_arguments, superlink_arguments

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "deploy/containers"
KUBERNETES = CONTAINERS / "kubernetes"
SITES = ("munich", "paris", "london")
FILES = SuperLinkFiles(Path("/work/federations/fl"))
COMPOSE = yaml.safe_load((CONTAINERS / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
LINES = (CONTAINERS / "Containerfile").read_text().splitlines()


def words(*arguments: str) -> list[str]:
    """Return arguments with the value of each `--key value` behind its key."""
    return re.sub(r"(--\S+) (?!--)", r"\1=", " ".join(arguments)).split()


SUPERLINK = words("flower-superlink", *superlink_arguments(FILES, host="0.0.0.0", port=9391))
SUPEREXEC = words("flower-superexec", *superexec_arguments(FILES, address="superlink:9391"))


def documents(folder: Path) -> list[dict[str, Any]]:
    """Return what a kustomization names, those of the folders that it names, too."""
    found = []
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
        path = folder / name
        found += documents(path) if path.is_dir() else yaml.safe_load_all(path.read_text())
    return found


def of_kind(folder: str, kind: str) -> dict[str, Any]:
    (one,) = (d for d in documents(KUBERNETES / folder) if d["kind"] == kind)
    return dict(one)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_root_no_privileges_and_a_file_system_to_read(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.keys().isdisjoint({"ports", "privileged", "network_mode", "cap_add", "devices"})
    assert not any("docker.sock" in volume for volume in service["volumes"])


@pytest.mark.parametrize("site", SITES)
def test_a_site_shares_its_network_with_the_superlink_alone(site: str) -> None:
    assert SERVICES[site]["networks"] == [site]
    members = {name for name, one in SERVICES.items() if site in one["networks"]}
    assert members == {site, "superlink"}
    assert SERVICES[site]["volumes"] == [
        f"./sites/{site}/kit:/kit",
        f"./sites/{site}/images:/images:ro",
    ]


def test_no_network_leads_out() -> None:
    assert COMPOSE["networks"] == {name: {"internal": True} for name in ("coordinator", *SITES)}


def test_the_coordinator_is_started_as_the_product_says() -> None:
    assert SERVICES["superlink"]["command"] == SUPERLINK
    assert SERVICES["superexec"]["command"] == SUPEREXEC
    pod = of_kind("coordinator", "StatefulSet")["spec"]["template"]["spec"]
    commands = {one["name"]: one["command"] for one in pod["containers"]}
    assert commands["superlink"] == SUPERLINK
    assert commands["superexec"] == SUPEREXEC


@pytest.mark.parametrize("folder", ["coordinator", *SITES])
def test_a_pod_has_no_root_no_privileges_and_a_file_system_to_read(folder: str) -> None:
    kind = "StatefulSet" if folder == "coordinator" else "Deployment"
    pod = of_kind(folder, kind)["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod.keys().isdisjoint({"hostNetwork", "hostPID", "hostIPC"})
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
    assert not any("hostPath" in volume for volume in pod["volumes"])
    labels = of_kind(folder, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("site", SITES)
def test_a_sites_pods_speak_to_the_superlinks_port_and_hear_nobody(site: str) -> None:
    policy = of_kind(site, "NetworkPolicy")["spec"]
    assert (policy["podSelector"], policy["ingress"]) == ({}, [])
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    (rule,) = policy["egress"]
    (target,) = rule["to"]
    coordinator = of_kind("coordinator", "Namespace")["metadata"]["name"]
    assert target["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": coordinator
    }
    pod = of_kind("coordinator", "StatefulSet")["spec"]["template"]
    assert target["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 9391}]


@pytest.mark.parametrize("site", SITES)
def test_a_site_needs_no_name_server(site: str) -> None:
    pod = of_kind(site, "Deployment")["spec"]["template"]["spec"]
    service = of_kind("coordinator", "Service")["spec"]
    assert pod["hostAliases"] == [{"ip": service["clusterIP"], "hostnames": ["superlink"]}]
    assert pod["dnsPolicy"] == "None"
    mounts = {
        one["mountPath"]: one.get("readOnly", False) for one in pod["containers"][0]["volumeMounts"]
    }
    assert mounts == {"/kit": False, "/images": True, "/tmp": False}
    assert of_kind(site, "Namespace")["metadata"]["name"] == f"primia-{site}"
    named = yaml.safe_load((KUBERNETES / site / "kustomization.yaml").read_text())["namespace"]
    assert named == f"primia-{site}"


def test_the_image_is_of_a_pinned_version_without_root_and_of_what_is_named() -> None:
    bases = [line.split()[1] for line in LINES if line.startswith("FROM ")]
    assert bases
    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base) for base in bases)
    users = [line.split()[1] for line in LINES if line.startswith("USER ")]
    assert users == ["10001:10001"]
    last = LINES[max(n for n, line in enumerate(LINES) if line.startswith("FROM ")) :]
    assert [line for line in last if line.startswith(("COPY", "ADD"))] == [
        "COPY --from=build /opt/primia /opt/primia"
    ]
    copied = [word for line in LINES if line.startswith("COPY ") and "--from" not in line
              for word in line.split()[1:-1]]  # fmt: skip
    assert set(copied) == {
        *("pyproject.toml", "README.md", "LICENSE"),
        *("primia_flwr", "clients", "strategies", "conf"),
    }
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("engine", ["", "#!/bin/bash\nexit 1\n"])
def test_without_an_engine_that_answers_make_says_so(tmp_path: Path, engine: str) -> None:
    """None is there, or a client whose engine does not run."""
    if engine:
        (tmp_path / "docker").write_text(engine)
        (tmp_path / "docker").chmod(0o700)
    make = shutil.which("make")
    if not make:
        pytest.skip("no make")
    done = subprocess.run(
        [make, "-C", str(ROOT), "--no-print-directory", "federation-containers"],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == (
        "error: no container engine answers; expected podman or docker, running: start one, or "
        "use make federation"
    )
