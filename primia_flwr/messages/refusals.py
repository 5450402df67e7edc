"""How a site's refusal looks when it arrives at the coordinator."""

import re

from primia_flwr.errors import FAILED_AT_SITE

# Flower's ClientApp process writes an exception as "<class 'module.Name'>:<'message'>".
_EXCEPTION = re.compile(r"<class '(?:[\w.]+\.)?(\w+)'>:<'(.*)'>", re.DOTALL)
# A simulated site's exception comes within a traceback of several processes; the last one counts.
_RAISED = re.compile(r"primia_flwr\.errors\.(\w+): (.+?)(?=\\n|\n|'>$|$)")
# The last line of a traceback that names an error, of any package.
_LAST = re.compile(
    r"(?:^|\\n|\n)\s*((?:\w+\.)*\w*(?:Error|Exception|Interrupt))(?:: (.*?))?(?=\\n|\n|'>|$)"
)
_KILLED = (
    *("ActorDiedError", "ActorUnavailableError", "WorkerCrashedError", "NodeDiedError"),
    "ray.exceptions.OutOfMemoryError",  # Ray kills when the machine's memory runs low
)
_NO_MEMORY = ("out of memory", "allocate memory", "MemoryError", "OutOfMemoryError")
KILLED = "the process of this simulated site was killed, most often for want of memory"
NO_MEMORY = "out of memory"
_REFUSAL, _DIVERGENCE = "PolicyRefusal", "DivergenceError"


def refusal_reason(error_reason: str) -> str | None:
    """Return the sentence of a site's refusal, or None if the error is something else.

    `error_reason` is `reply.error.reason` of a failed Flower message.
    """
    match = _EXCEPTION.fullmatch(error_reason.strip())
    return match[2] if match and match[1] == _REFUSAL else None


def has_diverged(error_reason: str) -> bool:
    """Tell whether a site's error says that its training has diverged."""
    return failure_reason(error_reason).startswith(f"{_DIVERGENCE}:")


def failure_reason(error_reason: str) -> str:
    """Return one readable line for any failed reply: `DataError: …` or the sentence as it is.

    Of a traceback the last line that names an error, in plain words where memory ran out or the
    process was killed.
    """
    if FAILED_AT_SITE in error_reason:
        return FAILED_AT_SITE
    raised = _RAISED.findall(error_reason)
    if raised:
        return ": ".join(raised[-1])
    if any(name in error_reason for name in _KILLED):
        return KILLED
    last = _LAST.findall(error_reason)
    if last and any(words in error_reason for words in _NO_MEMORY):
        return f"{NO_MEMORY} ({_one_line(last[-1])})"
    if last and "Traceback (most recent call last)" in error_reason:
        return _one_line(last[-1])
    match = _EXCEPTION.fullmatch(error_reason.strip())
    return " ".join((f"{match[1]}: {match[2]}" if match else error_reason).split())


def _one_line(found: tuple[str, str]) -> str:
    name, message = found
    return " ".join(f"{name.rpartition('.')[2]}: {message}".split()).removesuffix(":")
