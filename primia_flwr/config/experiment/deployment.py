"""Where a run happens: simulated on one machine, or at real sites behind a SuperLink."""

import re
from dataclasses import dataclass, field

from primia_flwr.config.checks import check_choice
from primia_flwr.errors import ConfigError

_DEPLOYMENT_KINDS = ("simulation", "deployment")
_ISOLATIONS = ("process", "subprocess")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")


@dataclass
class DeploymentConfig:
    """Simulation, or the address and the roster of a provisioned federation.

    `primia provision` writes this section for a real federation. Paths are on the coordinator's
    machine. `isolation=process`: the ServerApp lives in its own process and outlasts the
    SuperLink. `nodes` maps each site to its SuperLink node id; the launcher fills it in from
    the registered keys, nobody writes it by hand. So is `bundle`, the SHA-256 of the code that the
    sites are asked to run: each gate compares it, and in a secure run it is bound into the masks.
    `members`: SHA-256 of the coordinator's roster, which the launcher fills in, too; a site with
    another roster refuses with a sentence. `durable`: the SuperLink of a trial keeps what it knows
    in a database; false: in memory, which is faster, and a killed SuperLink forgets the run.
    `trial`: the sites hold parts of the experiment's own data, as `primia federation trial` deals
    them; real sites read what their own site files name.
    """

    name: str = "simulation"
    kind: str = "simulation"
    superlink: str = ""
    root_certificates: str = ""
    roster: str = ""
    isolation: str = "process"
    nodes: dict[str, int] = field(default_factory=dict)
    bundle: str = ""
    members: str = ""
    durable: bool = True
    trial: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", self.name):
            raise ConfigError(
                f"deployment.name={self.name!r}; expected 1 to 32 letters, digits, '-' or '_', "
                "e.g. fl"
            )
        check_choice("deployment.kind", self.kind, _DEPLOYMENT_KINDS)
        check_choice("deployment.isolation", self.isolation, _ISOLATIONS)
        for key in ("bundle", "members"):
            if not re.fullmatch(r"([0-9a-f]{64})?", getattr(self, key)):
                raise ConfigError(
                    f"deployment.{key}={getattr(self, key)!r:.80}; expected nothing, or the "
                    "SHA-256 that the launcher fills in, 64 hexadecimal digits"
                )
        if self.kind == "deployment":
            self._check_deployment()

    def _check_deployment(self) -> None:
        check_address("deployment.superlink", self.superlink)
        for key, file in (("root_certificates", "ca.crt"), ("roster", "roster.yaml")):
            if not getattr(self, key):
                raise ConfigError(
                    f"deployment.{key}=''; expected the file that `primia provision` wrote, "
                    f"e.g. federations/fl/{file}"
                )


def check_address(key: str, value: str) -> None:
    """Refuse what is not `host:port` with a port from 1 to 65535.

    Raises
    ------
    ConfigError
        If `value` has another form.
    """
    match = _ADDRESS.fullmatch(value)
    if match and 1 <= int(match[2]) <= 65535:
        return
    raise ConfigError(f"{key}={value!r:.120}; expected host:port, e.g. fl.example.org:9391")
