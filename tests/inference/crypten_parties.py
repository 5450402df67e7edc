"""Data owner and model owner of `protocol=crypten`, each in a process of its own, for tests.

CrypTen keeps its state in its modules, so the two cannot share a process. The pair is started
once and runs one task after the other; for each, new links over TLS are made. The dealer is a
thread of the test's process.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from primia_flwr.errors import PrimiaError
from primia_flwr.inference.crypten.dealer import serve_dealer
from primia_flwr.inference.crypten.door import crypten, tfp_provider
from primia_flwr.inference.crypten.program import compute, fold, run_data_owner, run_model_owner
from primia_flwr.inference.crypten.wire import DONE
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.connect import connect
from primia_flwr.inference.transport.credentials import Role, load_credentials
from primia_flwr.inference.transport.listener import Listener
from tests.inference.links import credentials

PARTIES: tuple[Role, Role] = ("data-owner", "model-owner")
TIMEOUT = 10.0

# What a party does in a task: (link to the other party, link to the dealer, argument) -> result.
Task = Callable[[Channel, Channel, Any], Any]


class ToyNet(nn.Module):
    """A residual block, padded max-pooling, average pooling and a linear layer."""

    def __init__(self, channels: int = 1, width: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.stem(x))))
        out = self.inner(x)
        out += x
        return self.classifier(torch.flatten(self.average(self.relu(out)), 1))


@dataclass(frozen=True)
class Failed:
    """A party's error: its type's name and what it says."""

    kind: str
    message: str


_running: dict[Role, tuple[multiprocessing.process.BaseProcess, Connection]] = {}


def pair() -> list[Connection]:
    """Return lines to both processes; those that do not run are started first."""
    context = multiprocessing.get_context("spawn")
    started = [role for role in PARTIES if role not in _running]
    for role in started:
        ours, theirs = context.Pipe()
        arguments = (role, credentials(role).folder, theirs)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        _running[role] = process, ours
    for role in started:
        _running[role][1].recv()  # it has imported what it needs
    return [_running[role][1] for role in PARTIES]


@atexit.register
def stop() -> None:
    """End both processes."""
    for process, connection in _running.values():
        connection.close()
        process.kill()
        process.join()
    _running.clear()


def together(
    tasks: tuple[Task, Task],
    arguments: tuple[Any, Any],
    dealer: Callable[[Channel, Channel], Any] = serve_dealer,
    *,
    timeout: float = TIMEOUT,
) -> tuple[Any, Any, Any]:
    """Run a task at each party and serve it; return both results and the dealer's.

    What a party or the dealer raises is returned as `Failed`; a process that died, as None.
    """
    lines = pair()
    data_owner, model_owner = lines
    own = credentials("crypto-provider")
    with Listener("127.0.0.1:0", own, accept=PARTIES, timeout=timeout) as listener:
        model_owner.send((tasks[1], arguments[1], listener.port, 0, timeout))
        port = model_owner.recv()
        data_owner.send((tasks[0], arguments[0], listener.port, port, timeout))
        links = [listener.accept(30.0), listener.accept(30.0)]
    links.sort(key=lambda link: PARTIES.index(link.peer.role))  # type: ignore[union-attr]
    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(_attempt, dealer, *links)
        results = [_receive(role, line) for role, line in zip(PARTIES, lines, strict=True)]
        return results[0], results[1], served.result()


def classify(
    architecture: nn.Module, model: nn.Module, images: Tensor, **options: Any
) -> tuple[Any, Any, Any]:
    """Run the whole protocol; return the logits, None, and how many triples were dealt."""
    return together(
        (data_owner_task, model_owner_task),
        ((architecture, images, options), (model, tuple(images.shape), options)),
    )


def data_owner_task(other: Channel, dealer: Channel, argument: Any) -> Tensor:
    architecture, images, options = argument
    return run_data_owner(other, dealer, architecture, images, **options)


def model_owner_task(other: Channel, dealer: Channel, argument: Any) -> None:
    model, shape, options = argument
    run_model_owner(other, dealer, model, shape, **options)


def dying_task(other: Channel, dealer: Channel, argument: Any) -> None:
    """Die in the middle of the computation, as by a kill -9."""
    exchange = other.exchange

    def deadly(*arguments: Any, **options: Any) -> Any:
        if other.counts.frames_sent >= 5:
            os._exit(1)
        return exchange(*arguments, **options)

    other.exchange = deadly  # type: ignore[method-assign]
    task = data_owner_task if other.peer.role == "model-owner" else model_owner_task
    task(other, dealer, argument)


def first_party_task(other: Channel, dealer: Channel, argument: Any) -> Tensor | None:
    """Compute with CrypTen's own provider, which needs no dealer."""
    model, images = argument
    party = 1 - PARTIES.index(other.peer.role)
    result = compute(party, other, tfp_provider.TrustedFirstParty(), fold(model), images)
    if party == 1:
        dealer.send(DONE)
    return result


def watched_task(other: Channel, dealer: Channel, argument: Any) -> dict[str, Any]:
    """Watch PyTorch's generators and everything that draws from them during a computation."""
    exchange, draws = other.exchange, []

    def watched(*arguments: Any, **options: Any) -> Any:
        kinds.append(_generators())
        return exchange(*arguments, **options)

    def drawing(name: str) -> Callable[..., Any]:
        return lambda *_, **__: draws.append(name)

    kinds, state = [_generators()], torch.get_rng_state()
    other.exchange = watched  # type: ignore[method-assign]
    names = ("rand", "randint", "randn", "randperm", "bernoulli", "multinomial", "Generator")
    saved = {name: getattr(torch, name) for name in names}
    try:
        for name in names:
            setattr(torch, name, drawing(name))
        logits = data_owner_task(other, dealer, argument)
    finally:
        for name, function in saved.items():
            setattr(torch, name, function)
    return {
        "logits": logits,
        "default generator moved": not torch.equal(state, torch.get_rng_state()),
        "draws of torch": draws,
        "generators before, during, after": [kinds[0], set().union(*kinds[1:]), _generators()],
    }


def _generators() -> set[str]:
    tables = crypten.generators.values()
    return {type(generator).__name__ for table in tables for generator in table.values()}


def _attempt(work: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except Exception as error:
        known = isinstance(error, PrimiaError)
        return Failed(type(error).__name__ if known else f"unexpected {error!r}", str(error))


def _receive(role: Role, line: Connection) -> Any:
    try:
        return line.recv()
    except EOFError:
        process, _ = _running.pop(role)
        process.join()
        return None


def _work(role: Role, folder: Path, connection: Connection) -> None:
    torch.set_num_threads(1)
    own, number = load_credentials(folder), PARTIES.index(role)
    connection.send("ready")
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            task, argument, dealer_port, other_port, timeout = connection.recv()
        except EOFError:
            return
        address = f"127.0.0.1:{dealer_port}"
        with connect(address, own, expect="crypto-provider", timeout=timeout) as dealer:
            if number == 0:
                address = f"127.0.0.1:{other_port}"
                other = connect(address, own, expect="model-owner", timeout=timeout)
            else:
                with Listener("127.0.0.1:0", own, accept=PARTIES[:1], timeout=timeout) as listener:
                    connection.send(listener.port)
                    other = listener.accept(30.0)
            with other:
                result = _attempt(task, other, dealer, argument)
        connection.send(result)
