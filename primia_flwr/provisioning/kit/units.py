"""How the processes of a federation are started: command lines and systemd units."""

import getpass
import shlex
from pathlib import Path

from primia_flwr.flower.superlink import SuperLinkFiles, superexec_arguments, superlink_arguments
from primia_flwr.processes.programs import flower_program
from primia_flwr.provisioning.roster import Roster

_HARDENED = """\
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem={protect}
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes
UMask=0077
"""

_COORDINATOR = """\
[Unit]
Description={description}
After=network-online.target{after}
Wants=network-online.target

[Service]
User={user}
WorkingDirectory={folder}
Environment=FLWR_HOME={folder}/flower
Environment=FLWR_TELEMETRY_ENABLED=0
Environment=FLWR_DISABLE_UPDATE_CHECK=1
Environment=FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
ExecStart={command}
Restart=always
RestartSec=3
{hardened}
[Install]
WantedBy=multi-user.target
"""

_SITE = """\
# The site {site} of the federation {federation}, started with the computer. As root, once:
#   useradd --system --home-dir /opt/primia primia
#   mkdir -p /opt/primia && mv kit-{site} site-env /opt/primia/
#   chown -R primia: /opt/primia/kit-{site}
#   cp /opt/primia/kit-{site}/primia-site-{site}.service /etc/systemd/system/
#   systemctl daemon-reload && systemctl enable --now primia-site-{site}
# The account needs to read the images (data_root of site.yaml), and nothing else.
# What the site says: journalctl -u primia-site-{site}
[Unit]
Description=Site {site} of the federation {federation}
After=network-online.target
Wants=network-online.target

[Service]
User=primia
WorkingDirectory=/opt/primia/kit-{site}
ExecStart=/opt/primia/site-env/bin/primia site run
Restart=always
RestartSec=30
TimeoutStopSec=60
ReadWritePaths=/opt/primia/kit-{site}
ProtectHome=read-only
CapabilityBoundingSet=
{hardened}
[Install]
WantedBy=multi-user.target
"""


def superlink_line(folder: Path, *, port: int) -> str:
    """Return the command that starts the SuperLink on all interfaces."""
    arguments = superlink_arguments(SuperLinkFiles(folder.resolve()), host="0.0.0.0", port=port)
    return shlex.join([flower_program("flower-superlink"), *arguments])


def superexec_line(folder: Path, *, address: str) -> str:
    """Return the command that starts the process which runs ServerApps."""
    arguments = superexec_arguments(SuperLinkFiles(folder.resolve()), address=address)
    return shlex.join([flower_program("flower-superexec"), *arguments])


def site_unit(site: str, federation: str) -> str:
    """Return the systemd unit of a site, which may write into its kit's folder only."""
    hardened = _HARDENED.format(protect="strict")
    return _SITE.format(site=site, federation=federation, hardened=hardened)


def units(folder: Path, roster: Roster, *, port: int, address: str) -> dict[str, str]:
    """Return systemd units by file name: the SuperLink and the ServerApps' starter.

    They run as the account that provisions, whose run folders the ServerApps write into.
    """
    name, place = roster.federation, str(folder.resolve())
    link = f"primia-{name}-superlink.service"
    common = {
        "folder": place,
        "user": getpass.getuser(),
        "hardened": _HARDENED.format(protect="full"),
    }
    return {
        link: _COORDINATOR.format(
            description=f"SuperLink of the federation {name}",
            after="",
            command=superlink_line(folder, port=port),
            **common,
        ),
        f"primia-{name}-superexec.service": _COORDINATOR.format(
            description=f"ServerApps of the federation {name}",
            after=f" {link}",
            command=superexec_line(folder, address=address),
            **common,
        ),
    }
