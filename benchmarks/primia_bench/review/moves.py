"""Moves of a coordinator that attacks, played against the real site half of a row's run.

    python -m primia_bench.review.moves '["aggregation=secure"]' FOLDER

prints what came of each: `came` is one of `refused`, `seen`, `a part is seen`, `the sum is noise`,
`not refused`, `does not apply`; `why` is what the site said. Nothing here is written by hand: a
move that no longer does what it did has another cell.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from flwr.app import RecordDict
from flwr.supercore.task_identity import TaskIdentity

from primia_bench.review.hostile import NOISED, NOT_REFUSED, SITES, VICTIM, Scene
from primia_flwr.attacks.crafted.model import Trap, set_trap
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.messages import records
from primia_flwr.messages import relay as relay_wire
from primia_flwr.messages import secure as wire
from primia_flwr.models.registry import build_model
from primia_flwr.primitives.keys import KeyPair
from primia_flwr.processes.children import BUNDLE_VARIABLE
from primia_flwr.secagg.protocol.wire import RelayHop, SignRequest, encode
from tests.security.lab import Lab, Refused, last_bit_changed

REFUSED, NO_SENSE = "refused", "does not apply"
_OVER = 2
_STILL = 1e-30  # a learning rate with which next to nothing is sent
_Played = dict[str, str]


def play(lab: Lab, overrides: list[str]) -> dict[str, Any]:
    """Play all moves against a row's run; each at sites that were never asked anything."""
    scene, came = Scene(lab, overrides), dict[str, _Played]()
    for name, move in _MOVES.items():
        scene.reset()
        came[name] = move(scene)
    return {"policy": scene.policy, "moves": came}


def _result(scene: Scene, found: str | RecordDict | Refused) -> _Played:
    if isinstance(found, Refused):
        return {"came": REFUSED, "why": scene.reason(found)}
    return {"came": found if isinstance(found, str) else NOT_REFUSED, "why": ""}


def _judged(scene: Scene, text: str, bundle: bytes | None = None) -> _Played:
    """Have the gate judge; what it lets in is sent on to the site."""
    if why := scene.judged(text, bundle):
        return {"came": REFUSED, "why": why}
    return _result(scene, scene.asked(VICTIM, scene.content(), text))


def _nothing() -> _Played:
    return {"came": NO_SENSE, "why": ""}


# --- What the gate judges ------------------------------------------------------------------------


def _another_bundle(scene: Scene) -> _Played:
    return _judged(scene, scene.told(), scene.other_bundle())


def _fewer_sites(scene: Scene) -> _Played:
    return _judged(scene, scene.told(federation__min_sites=2))


def _in_the_clear(scene: Scene) -> _Played:
    if _secure(scene):
        return _judged(scene, scene.told(aggregation__name="plain"))
    if _sealed(scene):
        return _judged(scene, scene.told(aggregation__sealed=False))
    return _nothing()


def _without_noise(scene: Scene) -> _Played:
    if not _private(scene):
        return _nothing()
    return _judged(scene, scene.told(privacy__mode="none"))


# --- What the site's app sees to -----------------------------------------------------------------


def _more_epsilon(scene: Scene) -> _Played:
    """Ask for a run that costs twice what the site's ceiling allows."""
    if not _private(scene):
        return _nothing()
    privacy = scene.experiment.privacy
    dear = replace(privacy, epsilon=_OVER * privacy.epsilon)
    return _result(scene, _trained(scene, replace(scene.experiment, privacy=dear)))


def _two_lists(scene: Scene) -> _Played:
    """Have a sum over all sites opened, then one of next to the same model over all but one."""
    if not _secure(scene):
        return _nothing()
    first = scene.summed(scene.content())
    if first != NOT_REFUSED:
        raise RuntimeError(f"an honest sum is not opened: {first}")
    told = dict.fromkeys(SITES[:-1], scene.experiment)
    changed = last_bit_changed(scene.model)
    return _with_noise(scene, _result(scene, scene.summed(scene.content(changed, 2), told)))


def _one_alone(scene: Scene) -> _Played:
    """Try to get the numbers that one site trained."""
    if _secure(scene):
        return _result(scene, _only_survivor(scene))
    if _sealed(scene):
        return _result(scene, _unsealed(scene))
    with scene.noting():
        reply = scene.asked(VICTIM, scene.content())
    return _result(scene, reply if isinstance(reply, Refused) else scene.seen_in(reply))


def _only_survivor(scene: Scene) -> str | Refused:
    """Say that all sites but one have dropped out, after all have sent their vectors."""
    told = dict.fromkeys(SITES, scene.experiment)
    server, refused = scene.vectors(scene.content(), told)
    raw = encode(SignRequest(server.number, (VICTIM,)))
    for site in SITES:
        refused = refused or _refusal(scene.lab.query(site, {wire.SIGN: raw}, scene.experiment))
    return refused or NOT_REFUSED


def _unsealed(scene: Scene) -> str | Refused:
    """Ask the first site for a key of the coordinator's, then for its model in the clear."""
    keys = scene.hop_keys()
    own = KeyPair.generate().public + bytes(64)
    stolen = scene.hopped(_hop({**keys, SITES[1]: own}), scene.content())
    scene.hopped(_hop(keys), scene.content())
    in_the_clear = encode(RelayHop(1, 1, VICTIM, "", {}))
    shown = scene.relay_query(VICTIM, {relay_wire.HOP: in_the_clear})
    return (_refusal(stolen) and _refusal(shown)) or NOT_REFUSED


def _told_otherwise(scene: Scene) -> _Played:
    """Tell one site the truth, and the others a learning rate at which they send nothing."""
    training = replace(scene.experiment.training, learning_rate=_STILL, min_learning_rate=_STILL)
    other = replace(scene.experiment, training=training)
    if _secure(scene):
        told = dict.fromkeys(SITES, other) | {VICTIM: scene.experiment}
        return _result(scene, scene.summed(scene.content(), told))
    if _sealed(scene):
        return _result(scene, _carried(scene, other))
    replies = [scene.asked(site, scene.content(), other) for site in SITES[1:]]
    return _result(scene, next(filter(_refusal, replies), NOT_REFUSED))


def _carried(scene: Scene, other: Experiment) -> RecordDict | Refused:
    """Bring what the first site sealed to the second, which was told something else."""
    keys = scene.hop_keys()
    sealed = scene.hopped(_hop(keys), scene.content())
    if isinstance(sealed, Refused):
        raise RuntimeError(f"an honest hop is refused: {scene.reason(sealed)}")
    hop = RelayHop(1, 1, VICTIM, SITES[2], keys)
    content = RecordDict(
        {**scene.content(), relay_wire.SEALED: sealed.array_records[relay_wire.SEALED]}
    )
    return scene.hopped(hop, content, other)


def _crafted(scene: Scene) -> _Played:
    """Show all sites a model that shuts the network for nearly all images, within all bounds."""
    try:
        model = _trap(scene)
    except IndexError:  # no norm, no rectifier: nothing can be shut
        return _nothing()
    if _private(scene):  # whose first weights are compared: the trap comes later
        _trained(scene, scene.experiment)
    content = scene.content(model, 2 if _private(scene) else 1)
    found = _trained(scene, scene.experiment, content)
    return _with_noise(scene, _result(scene, found))


def _trap(scene: Scene) -> dict[str, Any]:
    cfg, channels = scene.experiment.model, scene.experiment.data.channels
    model = build_model(cfg, outputs=2, channels=channels, seed=1)
    side = scene.experiment.data.image_size
    public = torch.randn(24, channels, side, side, generator=torch.Generator().manual_seed(0))
    set_trap(model, Trap("within_bounds", 3), public, share=1 / 12)
    return dict(wire.numpy_arrays(records.to_arrays(model.state_dict())))


_MOVES: Mapping[str, Callable[[Scene], _Played]] = {
    "another bundle": _another_bundle,
    "fewer sites": _fewer_sites,
    "in the clear": _in_the_clear,
    "without noise": _without_noise,
    "more epsilon": _more_epsilon,
    "two lists": _two_lists,
    "one alone": _one_alone,
    "told otherwise": _told_otherwise,
    "crafted": _crafted,
}


def _trained(
    scene: Scene, experiment: Experiment, content: RecordDict | None = None
) -> str | RecordDict | Refused:
    """Have the sites train, as the row has it."""
    content = content or scene.content()
    if _secure(scene):
        return scene.summed(content, dict.fromkeys(SITES, experiment))
    if _sealed(scene):
        return scene.hopped(_hop(scene.hop_keys()), content, experiment)
    return scene.asked(VICTIM, content, experiment)


def _hop(keys: Mapping[str, bytes]) -> RelayHop:
    return RelayHop(1, 0, "", SITES[1], {SITES[1]: keys[SITES[1]]})


def _refusal(found: Any) -> Refused | None:
    return found if isinstance(found, Refused) else None


def _with_noise(scene: Scene, played: _Played) -> _Played:
    noised = _private(scene) and played["came"] == NOT_REFUSED
    return {**played, "came": played["came"] + NOISED} if noised else played


def _secure(scene: Scene) -> bool:
    return scene.experiment.aggregation.name == "secure"


def _sealed(scene: Scene) -> bool:
    return scene.experiment.aggregation.sealed


def _private(scene: Scene) -> bool:
    return scene.experiment.privacy.enabled


def main() -> None:
    for name in ("run_id", "node_id", "task_id"):
        setattr(TaskIdentity, name, 1)
    os.environ.pop(BUNDLE_VARIABLE, None)
    setattr(os, "fsync", lambda handle: None)  # noqa: B010
    torch.set_num_threads(1)
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True)
    print(json.dumps(play(Lab(folder), json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
