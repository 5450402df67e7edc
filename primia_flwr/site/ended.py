"""Why a site's SuperNode or executor has ended, in a sentence for the hospital."""

import re

from primia_flwr.processes.children import Child
from primia_flwr.site.check import check_link
from primia_flwr.site.policy import SitePolicy
from primia_flwr.site.validity import AT_SITE, check_endings

NOT_ACTIVATED = r"\[code: 2004\]|Failed to activate SuperNode"
_LINES = 60
_NO_REASON = re.compile(r"\bINFO\b")
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
    text = child.log_tail(_LINES)
    if child.name == "supernode" and (sentence := _supernode_ended(policy, text)):
        return sentence
    lines = [line for line in text.splitlines() if line.strip() and not _NO_REASON.search(line)]
    return (
        f"the {child.name} of site {policy.site} ended with exit code {child.poll()}; expected it "
        "to run; `primia site check` says what is not ready, and the whole log is "
        f"{child.log_file}: {lines[-1] if lines else '(no reason)'}"
    )


def _supernode_ended(policy: SitePolicy, text: str) -> str:
    """Return a known reason of a SuperNode's end; nothing where there is none."""
    ca = policy.path(policy.root_certificates)
    check_endings(policy.superlink, ca, AT_SITE)
    for pattern, sentence in _KNOWN_ENDS:
        if re.search(pattern, text):
            key = policy.path(policy.supernode_key)
            return sentence.format(superlink=policy.superlink, ca=ca, key=key)
    wrong = [one for one in check_link(policy) if one.name == "clock" and not one.ok]
    return f"the clock of this computer is {wrong[0].found}; {wrong[0].remedy}" if wrong else ""
