from __future__ import annotations

from typing import Any

import pytest

from primia_flwr.config.inference import InferArguments, ServeModelArguments, ServeProviderArguments
from primia_flwr.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"watch": True, "batch": 2}, "expected batch=1 and protocol=fss"),
        ({"watch": True, "protocol": "crypten"}, "expected batch=1 and protocol=fss"),
        ({"idle_stop": 5.0}, "idle_stop=5.0 without watch=true"),
        ({"watch_seconds": 5.0}, "watch_seconds=5.0 without watch=true"),
        ({"watch_new_only": True}, "watch_new_only=True without watch=true"),
        ({"watch": True, "watch_settle": -1.0}, "watch_settle=-1"),
        ({"watch": True, "idle_stop": -1.0}, "idle_stop=-1"),
    ],
)
def test_a_watch_that_cannot_be_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        InferArguments(**values)


def test_a_watch_that_can_be_is_taken() -> None:
    assert InferArguments(watch=True, watch_new_only=True, idle_stop=60.0).batch == 1


@pytest.mark.parametrize("threads", [-1, 257])
def test_threads_of_the_crypto_provider(threads: int) -> None:
    assert ServeProviderArguments().threads == 0
    with pytest.raises(ConfigError, match="threads"):
        ServeProviderArguments(threads=threads)


@pytest.mark.parametrize("hours", [0.0, -1.0, 1e6])
def test_a_session_must_end_some_time(hours: float) -> None:
    with pytest.raises(ConfigError, match="idle_hours"):
        ServeModelArguments(idle_hours=hours)
    with pytest.raises(ConfigError, match="idle_hours"):
        ServeProviderArguments(idle_hours=hours)
