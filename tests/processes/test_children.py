"""The environment of what is started on this machine."""

from __future__ import annotations

import pytest

from primia_flwr.processes.children import loopback_without_proxy


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "intranet, localhost"}, "intranet,localhost,127.0.0.1,::1"),
        ({"no_proxy": "a", "NO_PROXY": "b"}, "b,a,127.0.0.1,localhost,::1"),
    ],
)
def test_loopback_goes_through_no_proxy(known: dict[str, str], expected: str) -> None:
    found = loopback_without_proxy({"HTTP_PROXY": "http://127.0.0.1:9", **known})
    assert found == {"NO_PROXY": expected, "no_proxy": expected}
