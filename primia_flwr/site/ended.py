"""Why a site's SuperNode or executor has ended, in a sentence for the hospital."""

import re

from primia_flwr.processes.children import Child
from primia_flwr.site.policy import SitePolicy
from primia_flwr.site.validity import AT_SITE, check_endings

NOT_ACTIVATED = r"\[code: 2004\]|Failed to activate SuperNode"
_LINES = 60
# What Flower's SuperNode writes when it gives up, and what the hospital should read instead.
_KNOWN_ENDS = (
    (
        r"(?i)certificate verify failed|CERTIFICATE_VERIFY_FAILED|SSL/TLS handshake error",
        "superlink={superlink} shows a certificate that root_certificates={ca} did not sign; "
        "expected the federation's own SuperLink; ask the coordinator for the right ca.crt and "
        "compare fingerprints by phone",
    ),
    (
        NOT_ACTIVATED,
        "supernode_key={key} is not registered at superlink={superlink}, or is connected there "
        "already; expected a registered key and one SuperNode for it; give the coordinator the "
        "fingerprint of `ssh-keygen -l -f` and stop a second `primia site run`",
    ),
)


def why_ended(policy: SitePolicy, child: Child) -> str:
    """Return why a child of the site has ended.

    Raises
    ------
    FederationError
        If a certificate of the federation is not valid now: that is the reason then.
    """
    text, ca = child.log_tail(_LINES), policy.path(policy.root_certificates)
    if child.name == "supernode":
        check_endings(policy.superlink, ca, AT_SITE)
        for pattern, sentence in _KNOWN_ENDS:
            if re.search(pattern, text):
                key = policy.path(policy.supernode_key)
                return sentence.format(superlink=policy.superlink, ca=ca, key=key)
    lines = [line for line in text.splitlines() if line.strip()]
    return (
        f"the {child.name} of site {policy.site} ended with exit code {child.poll()}; expected "
        f"it to run; see {child.log_file}: {lines[-1] if lines else '(no output)'}"
    )
