"""A federation's life, command by command, as the guides tell it.

    python -m primia_bench.federation.life --json federation_life.json

Three hospitals with a kit each train; one more joins; a run is killed and resumed; one leaves in
the middle of a run, which goes on without it; the SuperLink's certificate expires and is renewed;
the sites give up the work of a run that was stopped. Each step says what it has found.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from primia_bench.federation.houses import SMALL, Coordinator, Hospital, wait
from primia_bench.machine import describe_machine
from primia_flwr.processes.children import free_port
from primia_flwr.provisioning.federation import Federation
from primia_flwr.provisioning.roster import load_roster

SITES = ("munich", "paris", "london")


class Life:
    """The steps, in their order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.coordinator = Coordinator(self._place("coordinator"))
        self.hospitals = {name: Hospital(self._place(name)) for name in SITES}

    def _place(self, name: str) -> Path:
        place = self.folder / name
        place.mkdir(mode=0o700)
        return place

    def provision(self) -> dict[str, Any]:
        """Make the federation, hand the kits over, start all, approve the code."""
        made = self.coordinator.primia(
            "provision", f"sites=[{','.join(SITES)}]", "server=127.0.0.1", f"port={self.port}"
        )
        self.coordinator.start_superlink()
        registered = self.coordinator.primia("federation", "status", "register=true", code=1)
        for name, hospital in self.hospitals.items():
            hospital.unpack(self.coordinator.folder / made.result["kits"][name])
            hospital.run()
        plan = self.coordinator.primia("train", "deployment=fl", "dry_run=true", *SMALL).result
        self.bundle = plan["bundle"]
        for hospital in self.hospitals.values():
            hospital.kit.primia("site", "approve", self.bundle)
        wheels = {len(list(h.kit.folder.glob("*.whl"))) for h in self.hospitals.values()}
        return {"registered": len(registered.result["nodes"]), "wheels_in_each_kit": wheels.pop()}

    def first_run(self) -> dict[str, Any]:
        """Train two rounds over the three."""
        return self._finished("one", "federation.rounds=2")

    def add(self) -> dict[str, Any]:
        """Rome joins: a kit, its fingerprint compared, a run with four."""
        made = self._kit_for_rome()
        refused = self._refused("before", "federation.wait_for_sites=20", "seed=9")
        self._all_take_rome_in(made)
        same_seed = self._refused("same", "federation.rounds=1")
        assert "start with another seed, e.g. seed=2" in same_seed, same_seed
        done = self._finished("two", "federation.rounds=1", "seed=2")
        return {"before_they_took_it_in": refused, "with_the_same_seed": same_seed, **done}

    def _kit_for_rome(self) -> str:
        made = self.coordinator.primia("federation", "add", "sites=[rome]").result
        rome = self.hospitals["rome"] = Hospital(self._place("rome"))
        rome.unpack(Path(made["kits"]["rome"]))
        rome.run()
        rome.kit.primia("site", "approve", self.bundle)
        marks = {s.name: s.identity_fingerprint for s in self._roster().sites}
        return str(marks["rome"])

    def _all_take_rome_in(self, mark: str) -> None:
        for name in SITES:
            words = ["site", "roster", str(self.coordinator.federation / "roster.yaml")]
            shown = self.hospitals[name].kit.primia(*words)
            assert shown.result["came"] == {"rome": mark}, shown.text
            self.hospitals[name].kit.primia(*words, f"compared=[{mark}]")

    def kill_and_resume(self) -> dict[str, Any]:
        """Kill `primia train` after a round; `runs` tells and stops it; resume it."""
        child = self.coordinator.train("three", "federation.rounds=3", "seed=3")
        wait(lambda: self.coordinator.event("three", '"round_finished"'), "a round")
        os.kill(child.pid, signal.SIGKILL)
        child.stop()
        run = "out/three"
        listed = self._listed(run)
        stopped = self.coordinator.primia("runs", "stop", run, code=None).result
        done = self.coordinator.primia("train", f"resume={run}").result
        return {"listed": listed, "stopped": stopped.get("stopped"), "rounds": done["rounds"]}

    def revoke(self) -> dict[str, Any]:
        """Rome leaves in the middle of a run, which goes on with the three."""
        run = "out/four"
        if "rome" not in self.hospitals:
            self._all_take_rome_in(self._kit_for_rome())
        # passes enough that the run is stopped while the sites train, with no sum half opened
        self.coordinator.train("four", "federation.rounds=3", "seed=4", "training.local_epochs=40")
        wait(lambda: self.coordinator.event("four", '"round_finished"'), "a round")
        self.coordinator.primia("runs", "stop", run)
        self.coordinator.primia("federation", "revoke", "sites=[rome]")
        for name in SITES:
            words = ["site", "roster", str(self.coordinator.federation / "roster.yaml")]
            self.hospitals[name].kit.primia(*words, "left=[rome]")
        done = self.coordinator.primia("train", f"resume={run}")
        assert "rome left the roster; the run goes on with" in done.text, done.text
        rome = self.hospitals.pop("rome")
        ended = wait(lambda: rome.children[-1].poll() is not None, "rome's site ended", 120)
        return {"rounds": done.result["rounds"], "romes_site_ended_after_seconds": round(ended)}

    def expired(self) -> dict[str, Any]:
        """Let the SuperLink's certificate expire: all say so; renew it, all go on."""
        from tests.provisioning.shown_certificate import end_certificate

        for hospital in self.hospitals.values():
            hospital.end()
        self.coordinator.stop()
        folder = self.coordinator.federation
        end_certificate(Federation(folder, self._roster(), {}), days=-1)
        self.coordinator.start_superlink()
        munich = self.hospitals["munich"].kit.primia("site", "run", code=2).text
        status = self.coordinator.primia("federation", "status", code=2).text
        check = self.hospitals["munich"].kit.primia("site", "check", code=1).text
        assert all("expired on" in text for text in (munich, status, check)), munich + status
        self.coordinator.primia("federation", "renew")
        self.coordinator.stop()
        self.coordinator.start_superlink()
        for hospital in self.hospitals.values():
            hospital.run()
        sentence = munich.strip().splitlines()[-1]
        return {"said": sentence, **self._finished("five", "federation.rounds=1", "seed=5")}

    def straggler(self) -> dict[str, Any]:
        """Stop a run while the sites train for long: they give up, the next one starts."""
        self.coordinator.train("six", "training.local_epochs=4000", "seed=6")
        wait(lambda: all(self._trains(h) for h in self.hospitals.values()), "all train")
        began = time.monotonic()
        self.coordinator.primia("runs", "stop", "out/six")
        wait(lambda: all("given-up" in h.events() for h in self.hospitals.values()), "given up", 90)
        seconds = round(time.monotonic() - began)
        return {"given_up_after_seconds": seconds, **self._finished("seven", "seed=7")}

    def stop(self) -> None:
        """Stop everything."""
        for house in (*self.hospitals.values(), self.coordinator):
            house.stop()

    def _trains(self, hospital: Hospital) -> bool:
        lines = (hospital.kit.folder / "state" / "site-log.jsonl").read_text().splitlines()
        last: dict[str, Any] = json.loads(lines[-1])
        return bool(last["event"] == "accepted" and last["details"]["message"] == "train")

    def _listed(self, run: str) -> str:
        runs = self.coordinator.primia("runs", "list", "out", "name=fl").result["runs"]
        return next(str(one["status"]) for one in runs if one["run"] == run)

    def _roster(self) -> Any:
        return load_roster(self.coordinator.federation / "roster.yaml")

    def _finished(self, name: str, *words: str) -> dict[str, Any]:
        began = time.monotonic()
        more = () if any("rounds" in word for word in words) else ("federation.rounds=1",)
        child = self.coordinator.train(name, *words, *more)
        wait(lambda: child.poll() is not None, f"run {name}", 600)
        assert child.poll() == 0, child.log_tail(20)
        facts = json.loads((self.coordinator.folder / "out" / name / "run.json").read_text())
        sites = [site["site"] for site in facts["sites"]]
        return {"sites": sites, "seconds": round(time.monotonic() - began)}

    def _refused(self, name: str, *words: str) -> str:
        child = self.coordinator.train(name, *words)
        wait(lambda: child.poll() is not None, f"run {name}", 600)
        assert child.poll() == 2, child.log_tail(20)
        return child.log_tail(1)


def main() -> None:
    """Run the steps and print one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write all results there")
    parser.add_argument("--steps", default="", help="some of them, e.g. provision,revoke")
    arguments = parser.parse_args()
    wanted = arguments.steps.split(",") if arguments.steps else []
    results: dict[str, Any] = {"machine": describe_machine()}
    with tempfile.TemporaryDirectory(prefix="primia-life-") as folder:
        life = Life(Path(folder).resolve())
        steps: list[Callable[[], dict[str, Any]]] = [
            *(life.provision, life.first_run, life.add, life.kill_and_resume),
            *(life.revoke, life.expired, life.straggler),
        ]
        try:
            for step in (one for one in steps if not wanted or one.__name__ in wanted):
                began = time.monotonic()
                found = step()
                results[step.__name__] = found | {"step_seconds": round(time.monotonic() - began)}
                print(json.dumps({step.__name__: results[step.__name__]}), flush=True)
        finally:
            life.stop()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
