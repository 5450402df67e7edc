"""`primia provision service`: keys and certificates for a service of encrypted inference.

With `add`, `renew` or `remove` a service that exists is changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_host, check_range
from primia_flwr.errors import ConfigError
from primia_flwr.provisioning.service import Service, ServicePlan, command, provision_service

if TYPE_CHECKING:
    from primia_flwr.provisioning.service_changes import Changed, ServiceFolder


@dataclass
class ProvisionServiceArguments:
    """Arguments of `primia provision service`; `output` empty means `services/<name>`.

    `add`, `renew`, `remove`: names of data owners, `renew` also `model-owner` and
    `crypto-provider`, in the service that `output` holds; its hosts and ports stay.
    """

    name: str = "diagnosis"
    model_owner: str = ""
    crypto_provider: str = ""
    data_owners: list[str] = field(default_factory=list)
    add: list[str] = field(default_factory=list)
    renew: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    model_owner_port: int = 9700
    crypto_provider_port: int = 9701
    output: str = ""
    days: int = 730
    loopback: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("model_owner_port", self.model_owner_port, 1, 65535, example=9700)
        check_range("crypto_provider_port", self.crypto_provider_port, 1, 65535, example=9701)
        check_range("days", self.days, 1, 3650, example=730)
        if self.changes and (self.model_owner or self.crypto_provider or self.data_owners):
            raise ConfigError(
                "add, renew and remove change a service that exists; expected them without "
                "model_owner, crypto_provider and data_owners, which make a new one"
            )

    @property
    def changes(self) -> bool:
        """Whether a service that exists is changed."""
        return bool(self.add or self.renew or self.remove)


def _run(cfg: ProvisionServiceArguments) -> dict[str, Any]:
    """Make the kits, or change them, print what to do next, and return the written files."""
    if cfg.changes:
        return _change(cfg)
    for key in ("model_owner", "crypto_provider"):
        check_host(key, getattr(cfg, key), example=f"{key.split('_')[0]}.example.org")
    plan = _plan_of(cfg)
    service = provision_service(plan, Path(cfg.output or f"services/{cfg.name}"))
    _explain(service, plan, Console(stderr=cfg.quiet, emoji=False))
    return {
        "service": str(service.folder),
        "ca_fingerprint": service.ca_fingerprint,
        "addresses": {peer.role: peer.address for peer in service.peers if peer.address},
        "kits": {name: str(kit.with_suffix(".zip")) for name, kit in service.kits.items()},
    }


def _plan_of(cfg: ProvisionServiceArguments) -> ServicePlan:
    return ServicePlan(
        name=cfg.name,
        model_owner=cfg.model_owner,
        crypto_provider=cfg.crypto_provider,
        data_owners=cfg.data_owners,
        model_owner_port=cfg.model_owner_port,
        crypto_provider_port=cfg.crypto_provider_port,
        days=cfg.days,
        loopback=cfg.loopback,
        software=True,
    )


def _explain(service: Service, plan: ServicePlan, console: Console) -> None:
    def show(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False, markup=False)

    show(f"Service {plan.name} in {service.folder} (CA {service.ca_fingerprint})\n")
    show("1. Give each party its kit over a safe way, and read it its fingerprints by phone:")
    for peer, kit in zip(service.peers, service.kits.values(), strict=True):
        show(f"   {kit.with_suffix('.zip')}  {peer.fingerprint}")
    show("\n2. Each party starts with its kit, in this order:")
    owner, provider, *data_owners = zip(service.peers, service.kits, strict=True)
    for peer, name in (provider, owner, *data_owners):
        show(f"   {command(plan, peer.role, kit=name)}")
    show(f"\n3. Delete the kits here, which hold the keys; keep {service.folder}/ca.key offline\n")


def _steps(service: "ServiceFolder", made: "Changed", days: int) -> Iterator[str]:
    yield f"Service {service.name} in {made.folder} (CA {made.ca_fingerprint})"
    for name, kit in made.kits.items():
        pin = service.peers[name].fingerprint
        yield f"- Give {name} its kit over a safe way, and compare its fingerprint by phone:"
        yield f"  {kit.with_suffix('.zip')}  {pin}; then delete the kit here"
    for name, certificate in made.certificates.items():
        yield f"- Give {name} {certificate}: it replaces party.crt in its kit, whose key"
        yield "  stays; then start again. Nobody else has to do anything"
    if made.days < days:
        yield f"- New certificates are valid for {made.days} days: then the CA itself ends"
    if made.concerns_all:
        yield f"- Model owner and crypto provider: put {made.folder / 'peers.yaml'} in the"
        yield "  place of the one in your kit, and start again: who was removed is then out"


def _change(cfg: ProvisionServiceArguments) -> dict[str, Any]:
    from primia_flwr.provisioning.service_changes import ServiceFolder

    service = ServiceFolder(Path(cfg.output or f"services/{cfg.name}"), software=True)
    made = service.change(add=cfg.add, renew=cfg.renew, remove=cfg.remove, days=cfg.days)
    console = Console(stderr=cfg.quiet, emoji=False)
    for step in _steps(service, made, cfg.days):
        console.print(step, soft_wrap=True, highlight=False, markup=False)
    return {
        "service": str(made.folder),
        "ca_fingerprint": made.ca_fingerprint,
        "kits": {name: str(kit.with_suffix(".zip")) for name, kit in made.kits.items()},
        "certificates": {name: str(file) for name, file in made.certificates.items()},
        "removed": list(made.removed),
        "days": made.days,
        "peers": str(made.folder / "peers.yaml"),
    }


COMMAND = Command(
    words=("provision", "service"),
    summary="make, add, renew or remove the kits of the parties of encrypted inference",
    examples=(
        "primia provision service model_owner=diagnosis.example.org "
        "crypto_provider=dealer.example.org data_owners=[clinic-a,clinic-b]",
        "primia provision service name=trial model_owner=127.0.0.1 crypto_provider=127.0.0.1 "
        "data_owners=[clinic]",
        "primia provision service output=services/diagnosis add=[clinic-c] remove=[clinic-b]",
        "primia provision service output=services/diagnosis renew=[clinic-a,model-owner]",
    ),
    config_name="commands/inference/provision",
    schema=ProvisionServiceArguments,
    run=_run,
)
