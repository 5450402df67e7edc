"""The proxy on the way to a SuperLink, as the environment names it."""

from __future__ import annotations

import pytest

from primia_flwr.processes.proxies import Proxy, proxy_to, through_proxy

NAMES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("variables", "host", "port"),
    [
        ({"HTTPS_PROXY": "http://proxy.example.org:3128"}, "proxy.example.org", 3128),
        ({"https_proxy": "proxy.example.org:3128"}, "proxy.example.org", 3128),
        ({"ALL_PROXY": "http://proxy.example.org"}, "proxy.example.org", 80),
        ({"HTTPS_PROXY": "https://proxy.example.org/"}, "proxy.example.org", 443),
        ({"HTTPS_PROXY": "http://[fd00::1]:8080"}, "fd00::1", 8080),
        ({"HTTPS_PROXY": "http://proxy.example.org:port"}, "proxy.example.org", 0),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other.org"}, "p", 1),
    ],
)
def test_a_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], host: str, port: int
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_to("fl.example.org:9391") == Proxy(host, port, {})


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "fl.example.org:9391"),
        ({"HTTP_PROXY": "http://p:1"}, "fl.example.org:9391"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "fl.example.org"}, "fl.example.org:9391"),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "x, example.org"}, "fl.example.org:9391"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "fl.example.org:9391"),
        ({"HTTPS_PROXY": "http://p:1"}, "127.0.0.1:9391"),
        ({"HTTPS_PROXY": "http://p:1"}, "localhost:9391"),
        ({"HTTPS_PROXY": "http://p:1"}, "[::1]:9391"),
    ],
)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], address: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_to(address) is None
    assert through_proxy(address) == ""


def test_a_password_is_sent_to_the_proxy_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://anna:s%40cret@proxy.example.org:3128")
    found = proxy_to("fl.example.org:9391")
    assert found is not None
    # The base64 of "anna:s@cret".
    assert found.headers == {"Proxy-Authorization": "Basic YW5uYTpzQGNyZXQ="}
    assert through_proxy("fl.example.org:9391") == (
        " through the proxy proxy.example.org:3128 of HTTPS_PROXY (without it: set "
        "NO_PROXY=fl.example.org)"
    )
