from __future__ import annotations

import pytest

from primia_flwr.config.checks import check_host
from primia_flwr.errors import ConfigError


@pytest.mark.parametrize(
    "host",
    ["fl.example.org", "FL", "localhost", "10.0.0.1", "::1", "fe80::1", "a_b.de", "xn--mnchen-3ya"],
)
def test_a_host(host: str) -> None:
    check_host("server", host, example="fl.example.org")


@pytest.mark.parametrize(
    "host",
    [
        "", "fl.example.org:9391", "https://fl.example.org", "[::1]", "::1:99999", "256.1.1.1",
        "1.2.3", "0.0.0.0", "::", "a..b", "-a.de", "a-.de", "a,b", "a b", "*.a.de", "klinik-ü.de",
        "a.de\n", "x" * 64, "a." * 127 + "de",
    ],
)  # fmt: skip
def test_no_host(host: str) -> None:
    with pytest.raises(ConfigError, match=r"^server=.*without a port.* e\.g\. server=fl\.ex"):
        check_host("server", host, example="fl.example.org")
