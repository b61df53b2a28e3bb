"""Kill every stage of the pipeline at random moments, start it again by the same command, and compare what it leaves with a run never killed.

    python tests/kills.py --kills 10                    # all nine stages, at least ten times each
    python tests/kills.py --kills 3 --stages sample

In a copy of the repository the small pipeline on digits runs, each stage once undisturbed. Then it lives again and again from nothing: its outs, its
entry in dvc.lock and its part of .state/ are gone. In each life `dvc repro` is killed two to five times, at moments drawn evenly over the life
that was measured (from the stage's start until dvc has recorded its outs), and started again, until it ends. Its entry in dvc.lock (params, and
the md5 of every dep, out, metric and plot) must then be that of the undisturbed run. Kinds of kill take turns. The program ends with a table
(docs/reliability.md has it), and exits with 1 when any life left other bytes.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "src")]

import psutil
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from support.checkout import TINY, Checkout, fresh_checkout

ROOT = Path(__file__).resolve().parent.parent
LONGER = {
    "autoencoder.epochs": 16,
    "denoiser.epochs": 12,
    "denoiser.preview.every_epochs": 6,
    "feature_extractor.epochs": 40,
    "sample.count": 3000,
    "sample.steps": 20,
    "manipulate.strengths": [0.2 * step for step in range(40)],
    "compute.save_every_seconds": 0.25,
    "compute.workers": 0,
}
"""Work of a few seconds, saved often, beside what the small pipeline has."""
KINDS = ("SIGKILL to all", "SIGKILL to the stage", "SIGTERM", "Ctrl-C")
MOST_KILLS = 5  # in one life
PATIENCE = 900  # seconds
STARTED = re.compile(r"^> python -m stages\.", re.MULTILINE)
RESUMED = re.compile(r"resumed \w+ ")


@dataclass
class Tally:
    """What happened to one stage."""

    life: float  # seconds of the undisturbed run
    kills: Counter[str] = field(default_factory=Counter)  # by kind
    lives: int = 0
    with_state: int = 0  # kills that left a saved state behind
    resumed: int = 0  # starts that said they continued from one
    lost: float = 0.0  # seconds between the last save (or, without one since, the start) and the kill, at most
    mended: int = 0  # kills while dvc wrote a file of its own
    different: int = 0  # lives that ended with other bytes


class Attempt:
    """One start of `dvc repro` of one stage, in a process group of its own."""

    def __init__(self, checkout: Checkout, stage: str) -> None:
        self.stage = stage
        self.started = time.time()  # seconds since 1970
        self._log = checkout.folder.parent / f"{stage}.log"
        with self._log.open("w") as log:
            command = [sys.executable, "-m", "dvc", "repro", "--single-item", "--force", "--no-run-cache", stage]
            self._dvc = subprocess.Popen(
                command, cwd=checkout.folder, env=checkout.environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for_the_stage(self) -> None:
        """Until dvc has started it."""
        while not STARTED.search(self.log) and self._dvc.poll() is None:
            time.sleep(0.005)
        self.started = time.time()

    def ends_within(self, seconds: float) -> bool:
        try:
            self._dvc.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self, kind: str) -> None:
        """Kill it and wait until nothing of it runs."""
        everyone = [psutil.Process(self._dvc.pid), *psutil.Process(self._dvc.pid).children(recursive=True)]
        stage = [process for process in everyone if f"stages.{self.stage}" in _command(process)]
        if kind == "SIGKILL to the stage" and stage:
            for process in stage:
                process.kill()
        else:  # also where the stage has ended and dvc is left
            os.killpg(self._dvc.pid, {"SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}.get(kind, signal.SIGKILL))
        self._dvc.wait(PATIENCE)
        psutil.wait_procs(everyone[1:], PATIENCE)

    def require_success(self) -> None:
        if self._dvc.returncode:
            raise RuntimeError(f"dvc repro {self.stage} ended with status {self._dvc.returncode}:\n{self.log}")


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


class Subject:
    """A checkout in which all stages before one have run, and that one."""

    def __init__(self, checkout: Checkout, stage: str) -> None:
        self.checkout, self.stage = checkout, stage
        self.state = checkout.folder / ".state" / stage
        self.expected: Any = None  # what it records when nobody kills it

    def undisturbed_life(self) -> float:
        """Seconds from the stage's start until dvc has recorded its outs."""
        attempt = Attempt(self.checkout, self.stage)
        attempt.wait_for_the_stage()
        started = time.monotonic()
        attempt.ends_within(PATIENCE)
        attempt.require_success()
        self.expected = self.recorded()
        return time.monotonic() - started

    def mend(self, intact: bytes) -> bool:
        """Whether a kill cut short what dvc writes in place: dvc.lock, which is then as before again, as `git checkout dvc.lock` would make it;
        or its note of who reads and writes what, which is removed."""
        note = self.checkout.folder / ".dvc" / "tmp" / "rwlock"
        try:
            json.loads(note.read_bytes() if note.exists() else b"{}")
        except ValueError:
            note.unlink()
            return True
        path, yaml = self.checkout.folder / "dvc.lock", YAML(typ="safe")
        with suppress(YAMLError, TypeError, KeyError, AttributeError):  # no YAML, nothing at all, or less than was there
            if yaml.load(intact)["stages"].items() <= yaml.load(path)["stages"].items():
                return False
        path.write_bytes(intact)
        return True

    def recorded(self) -> Any:
        """The stage's entry in dvc.lock; None without one."""
        return YAML(typ="safe").load(self.checkout.folder / "dvc.lock")["stages"].get(self.stage)

    def forget(self) -> None:
        """As if the stage had never run."""
        yaml, path = YAML(), self.checkout.folder / "dvc.lock"
        content = yaml.load(path)
        entry = content["stages"].pop(self.stage, None)
        yaml.dump(content, path)
        for out in (entry or {}).get("outs", []):
            path = self.checkout.folder / out["path"]
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.rmtree(self.state, ignore_errors=True)

    def last_save(self) -> float | None:
        """When the newest saved state was written (seconds since 1970); None without one."""
        return max((path.stat().st_mtime for path in self.state.rglob("*") if path.is_file() and path.name != "lock"), default=None)

    def live(self, tally: Tally, kills: int, chance: random.Random) -> None:
        """One life with at most so many kills, from nothing to the recorded outs."""
        self.forget()
        intact = (self.checkout.folder / "dvc.lock").read_bytes()
        attempt = Attempt(self.checkout, self.stage)
        for _ in range(kills):
            attempt.wait_for_the_stage()
            if attempt.ends_within(chance.uniform(0, tally.life)):
                break
            kind = KINDS[tally.kills.total() % len(KINDS)]
            moment, saved = time.time(), self.last_save()
            attempt.kill(kind)
            tally.kills[kind] += 1
            tally.mended += self.mend(intact)
            tally.resumed += bool(RESUMED.search(attempt.log))
            if saved is not None:
                tally.with_state += 1
                tally.lost = max(tally.lost, moment - max(saved, attempt.started))
            attempt = Attempt(self.checkout, self.stage)
        attempt.ends_within(PATIENCE)
        attempt.require_success()
        tally.resumed += bool(RESUMED.search(attempt.log))
        tally.lives += 1
        if (left := self.recorded()) != self.expected:
            tally.different += 1
            print(f"DIFFERENT {self.stage}: {_differences(left, self.expected)}", flush=True)


def _differences(left: Any, expected: Any) -> list[Any]:
    """What dvc.lock says otherwise of outs, metrics and plots; of nothing else, what it says."""
    return [out for out in (left or {}).get("outs", []) if out not in expected["outs"]] or [left]


def kill_stages(folder: Path, stages: Sequence[str], kills: int, seed: int) -> dict[str, Tally]:
    """Kill each of the stages at least ``kills`` times in a new copy of the repository in ``folder``; no stages named = all."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are deaf to Ctrl-C, and so would be what they start
    checkout = fresh_checkout(ROOT, folder / "checkout")
    checkout.change(**TINY | LONGER)
    checkout.commit()
    tallies = {}
    every = list(YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"])  # in an order in which they can run
    for stage in every[: 1 + max(map(every.index, stages or every))]:
        subject, chance = Subject(checkout, stage), random.Random(f"{seed}/{stage}")  # noqa: S311 - no secret
        tally = Tally(subject.undisturbed_life())
        if stage in (stages or [stage]):
            while tally.kills.total() < kills:
                subject.live(tally, min(chance.randint(2, MOST_KILLS), kills - tally.kills.total()), chance)
            tallies[stage] = tally
            print(_row(stage, tally), flush=True)
    return tallies


def _row(stage: str, tally: Tally) -> str:
    by_kind = " | ".join(str(tally.kills[kind]) for kind in KINDS)
    same = f"{tally.lives - tally.different} of {tally.lives}"
    lost = f"{tally.lost:.1f} s" if tally.with_state else ""
    return f"| `{stage}` | {tally.life:.0f} s | {by_kind} | {tally.with_state} | {tally.resumed} | {lost} | {tally.mended} | {same} |"


def table(tallies: dict[str, Tally]) -> str:
    """Markdown."""
    head = ["stage", "life", *KINDS, "killed with a saved state", "resumed", "since the last save, at most", "dvc's file cut short", "same bytes"]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(_row(*item) for item in tallies.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="of each stage, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--stages", nargs="*", default=[], help="none = all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tallies = kill_stages(Path(folder), arguments.stages, arguments.kills, arguments.seed)
    print("\n" + table(tallies))
    sys.exit(any(tally.different for tally in tallies.values()))


if __name__ == "__main__":
    main()
