"""What a simulated site's failure says: the last line of its traceback, or plain words."""

from __future__ import annotations

import pytest

from primia_flwr.messages.refusals import KILLED, failure_reason

TRACE = (
    "<class 'ray.exceptions.RayTaskError({name})'>:<'\\x1b[36mray::ClientAppActor.run()\\x1b[39m "
    '(pid=7)\\n  File "a.py", line 1, in run\\nTraceback (most recent call last):\\n'
    '  File "b.py", line 2, in step\\n    raise ValueError: no\\n{last}\'>'
)


def trace(last: str) -> str:
    return TRACE.format(name=last.partition(":")[0].rpartition(".")[2], last=last)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("ValueError: 3 is too few", "ValueError: 3 is too few"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
         "out of memory (OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB)"),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried",
         "out of memory (RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: "
         "you tried)"),
        ("MemoryError", "out of memory (MemoryError)"),
        ("primia_flwr.errors.DataError: a.png cannot be read", "DataError: a.png cannot be read"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("escaped", [True, False])
def test_the_last_line_is_the_reason(last: str, expected: str, escaped: bool) -> None:
    text = trace(last)
    assert failure_reason(text.replace("\n", "\\n") if escaped else text) == expected


@pytest.mark.parametrize(
    "name",
    ["ray.exceptions.ActorDiedError", "ray.exceptions.OutOfMemoryError", "WorkerCrashedError"],
)
def test_a_killed_process_is_said_in_plain_words(name: str) -> None:
    assert failure_reason(f"<class '{name}'>:<'The actor died.\nclass_name: x'>") == KILLED
