"""A whole federation on one machine, with everything a real one has: for trials and tests.

TLS, SuperNode authentication, a SuperLink with its database, and sites behind their gates, each
in its own processes on 127.0.0.1. Nothing is left running afterwards.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from primia_flwr.errors import FederationError
from primia_flwr.flower.superlink import SuperLink
from primia_flwr.flower.supernodes import LocalSite
from primia_flwr.processes.children import Service, free_port
from primia_flwr.provisioning.federation import Federation, Plan, provision
from primia_flwr.provisioning.nodes import register_sites

_CERTIFICATE_DAYS = 60  # their end is warned of 30 days ahead


@dataclass(frozen=True)
class LoopbackSite:
    """One hospital of the trial: its name, its data, and further keys of its policy."""

    name: str
    data_root: Path | None = None
    data_manifest: Path | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)


class LoopbackFederation(Service):
    """Provision into `folder`, start a SuperLink and the sites, stop all on exit.

    With `bundle`, each site approves that file before it starts. `experiments` are the names
    that the sites allow. After the start, `nodes` maps each site to its node id, `connection`
    is the name for `flwr run`, to be used with `FLWR_HOME=flower_home`.

    Examples
    --------
    >>> with LoopbackFederation(folder, [LoopbackSite("munich", data)], bundle=fab) as federation:
    ...     launch(federation.superlink.address, federation.flower_home)
    """

    connection = "primia"

    def __init__(
        self,
        folder: Path,
        sites: Sequence[LoopbackSite],
        *,
        bundle: Path | None = None,
        experiments: Sequence[str] = ("*",),
        min_sites: int = 1,
        port: int | None = None,
        durable: bool = True,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.bundle = bundle
        self.nodes: dict[str, int] = {}
        self._sites = list(sites)
        self._experiments = list(experiments)
        self._min_sites = min_sites
        self._stack = ExitStack()
        plan = Plan(
            name="loopback",
            sites=[site.name for site in sites],
            server="127.0.0.1",
            port=self.port,
            days=_CERTIFICATE_DAYS,
            min_sites=min_sites,
        )
        self.federation: Federation = provision(plan, folder / "federation")
        self.sites = {
            site.name: LocalSite(site.name, self.federation.kits[site.name]) for site in sites
        }
        self.superlink = SuperLink(
            self.federation.files,
            host="127.0.0.1",
            port=self.port,
            flower_home=folder / "flower",
            logs=folder / "logs",
            durable=durable,
        )

    @property
    def flower_home(self) -> Path:
        """Flower's home of the coordinator; it holds the connection for `flwr run`."""
        return self.superlink.flower_home

    @property
    def root_certificates(self) -> Path:
        """The federation's CA certificate."""
        return self.federation.files.ca

    def start(self) -> None:
        """Start all and wait until every site is connected.

        Raises
        ------
        FederationError
            If a process does not come up.
        """
        for site in self._sites:
            self.edit_policy(site.name, **_settings(site, self._experiments, self._min_sites))
            if self.bundle is not None:
                self.sites[site.name].approve(self.bundle)
        link, roster = self._stack.enter_context(self.superlink), self.federation.roster
        self.nodes = register_sites(link.address, self.root_certificates, roster)
        for local in self.sites.values():
            self._stack.callback(local.stop)
            local.start()
        for local in self.sites.values():
            local.wait_connected()

    def approve(self, bundle: Path) -> None:
        """Let every site approve a bundle file."""
        for local in self.sites.values():
            local.approve(bundle)

    def edit_policy(self, site: str, **changes: Any) -> None:
        """Change keys of a site's policy, as the hospital would with an editor."""
        file = self.sites[site].policy_file
        content = yaml.safe_load(file.read_text(encoding="utf-8")) | changes
        unknown = changes.keys() - content.keys()
        if unknown:
            raise FederationError(f"{file}: unknown keys {sorted(unknown)}")
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def stop(self) -> None:
        """Stop all processes."""
        self._stack.close()


def _settings(site: LoopbackSite, experiments: list[str], min_sites: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"allowed_experiments": experiments, "min_sites": min_sites}
    if site.data_root is not None:
        settings["data_root"] = str(site.data_root.resolve())
    if site.data_manifest is not None:
        settings["data_manifest"] = str(site.data_manifest.resolve())
        settings["data_layout"] = "manifest"
    return settings | dict(site.policy)
