"""Kill every stage of the pipeline at random moments, continue it by the same command, and compare the bytes.

    python tests/kills.py --kills 10                    # all ten stages, at least ten times each
    python tests/kills.py --kills 3 --stages sample

A copy of the repository runs the small pipeline on digits, each stage once undisturbed. Then each stage lives again
and again from nothing: without its outs, its entry in dvc.lock and its part of .state/. In each life `dvc repro` is
killed two to five times and started again, until it ends. The moments are drawn evenly over the undisturbed life,
which lasts from the stage's start until dvc has recorded its outs. Kinds of kill take turns. The stage's entry in
dvc.lock (params, and the md5 of every dep, out, metric and plot) must then be that of the undisturbed run. The program
prints a table (see docs/reliability.md), and exits with 1 when any life left other bytes.
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

from support.checkout import STAGES, TINY, Checkout, fresh_checkout

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
"""Settings that give each stage a few seconds of work, saved often."""
KINDS = ("SIGKILL to all", "SIGKILL to the stage", "SIGTERM", "Ctrl-C")
MOST_KILLS = 5  # in one life
PATIENCE = 900  # seconds
STARTED = re.compile(r"^> python -m stages\.", re.MULTILINE)
RESUMED = re.compile(r"resumed \w+ ")


@dataclass
class Outcome:
    """Counts of the lives and kills of one stage."""

    life: float  # seconds of the undisturbed run
    kills: Counter[str] = field(default_factory=Counter)  # by kind
    lives: int = 0
    with_state: int = 0  # kills that left a saved state behind
    resumed: int = 0  # starts whose log has that they continued from one
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
                command,
                cwd=checkout.folder,
                env=checkout.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for_the_stage(self) -> None:
        """Wait until dvc has started the stage."""
        while not STARTED.search(self.log) and self._dvc.poll() is None:
            time.sleep(0.005)
        self.started = time.time()

    def ends_within(self, seconds: float) -> bool:
        """Wait for at most so long; return whether the attempt has ended."""
        try:
            self._dvc.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self, kind: str) -> None:
        """Kill the attempt and wait until none of its processes runs."""
        everyone = [psutil.Process(self._dvc.pid), *psutil.Process(self._dvc.pid).children(recursive=True)]
        stage = [process for process in everyone if f"stages.{self.stage}" in _command(process)]
        if kind == "SIGKILL to the stage" and stage:
            for process in stage:
                process.kill()
        else:  # also where the stage has ended and dvc still runs
            os.killpg(self._dvc.pid, {"SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}.get(kind, signal.SIGKILL))
        self._dvc.wait(PATIENCE)
        psutil.wait_procs(everyone[1:], PATIENCE)

    def require_success(self) -> None:
        """Raise RuntimeError with the log unless dvc ended well."""
        if self._dvc.returncode:
            raise RuntimeError(f"dvc repro {self.stage} ended with status {self._dvc.returncode}:\n{self.log}")


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


class Subject:
    """A stage, in a checkout in which all stages before it have run."""

    def __init__(self, checkout: Checkout, stage: str) -> None:
        self.checkout, self.stage = checkout, stage
        self.state = checkout.folder / ".state" / stage
        self.expected: Any = None  # its record in dvc.lock without a kill

    def undisturbed_life(self) -> float:
        """Run the stage without a kill; return the seconds from its start until dvc has recorded its outs."""
        attempt = Attempt(self.checkout, self.stage)
        attempt.wait_for_the_stage()
        started = time.monotonic()
        attempt.ends_within(PATIENCE)
        attempt.require_success()
        self.expected = self.recorded()
        return time.monotonic() - started

    def mend(self, intact: bytes) -> bool:
        """Return whether a kill cut short a file that dvc writes in place, after mending it.

        dvc.lock becomes ``intact`` again, as by `git checkout dvc.lock`. DVC's own lock file, rwlock, is removed.
        """
        note = self.checkout.folder / ".dvc" / "tmp" / "rwlock"
        try:
            json.loads(note.read_bytes() if note.exists() else b"{}")
        except ValueError:
            note.unlink()
            return True
        path, yaml = self.checkout.folder / "dvc.lock", YAML(typ="safe")
        with suppress(
            YAMLError, TypeError, KeyError, AttributeError
        ):  # no YAML, nothing at all, or less than was there
            if yaml.load(intact)["stages"].items() <= yaml.load(path)["stages"].items():
                return False
        path.write_bytes(intact)
        return True

    def recorded(self) -> Any:
        """Return the stage's entry in dvc.lock; None without one."""
        return YAML(typ="safe").load(self.checkout.folder / "dvc.lock")["stages"].get(self.stage)

    def forget(self) -> None:
        """Remove all traces of the stage's runs."""
        yaml, path = YAML(), self.checkout.folder / "dvc.lock"
        content = yaml.load(path)
        entry = content["stages"].pop(self.stage, None)
        yaml.dump(content, path)
        for out in (entry or {}).get("outs", []):
            path = self.checkout.folder / out["path"]
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.rmtree(self.state, ignore_errors=True)

    def last_save(self) -> float | None:
        """Return when the newest state was saved, in seconds since 1970; None without one."""
        return max(
            (path.stat().st_mtime for path in self.state.rglob("[!.]*") if path.is_file() and path.name != "lock"),
            default=None,  # a name that begins with a dot is of a file that is being written
        )

    def live(self, outcome: Outcome, kills: int, chance: random.Random) -> None:
        """Run one life with at most so many kills, from nothing to the recorded outs."""
        self.forget()
        intact = (self.checkout.folder / "dvc.lock").read_bytes()
        attempt = Attempt(self.checkout, self.stage)
        for _ in range(kills):
            attempt.wait_for_the_stage()
            if attempt.ends_within(chance.uniform(0, outcome.life)):
                break
            kind = KINDS[outcome.kills.total() % len(KINDS)]
            moment, saved = time.time(), self.last_save()
            attempt.kill(kind)
            outcome.kills[kind] += 1
            outcome.mended += self.mend(intact)
            outcome.resumed += bool(RESUMED.search(attempt.log))
            if saved is not None:
                outcome.with_state += 1
                outcome.lost = max(outcome.lost, moment - max(saved, attempt.started))
            attempt = Attempt(self.checkout, self.stage)
        attempt.ends_within(PATIENCE)
        attempt.require_success()
        outcome.resumed += bool(RESUMED.search(attempt.log))
        outcome.lives += 1
        if (left := self.recorded()) != self.expected:
            outcome.different += 1
            print(f"DIFFERENT {self.stage}: {_differences(left, self.expected)}", flush=True)


def _differences(left: Any, expected: Any) -> list[Any]:
    """Return the outs, metrics and plots that differ in dvc.lock; without any, the whole entry."""
    return [out for out in (left or {}).get("outs", []) if out not in expected["outs"]] or [left]


def kill_stages(folder: Path, stages: Sequence[str], kills: int, seed: int) -> dict[str, Outcome]:
    """Kill each of the stages at least ``kills`` times, in a new copy of the repository; no stages named = all."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs ignore Ctrl-C, and so would their children
    checkout = fresh_checkout(ROOT, folder / "checkout")
    checkout.change(**TINY | LONGER)
    checkout.commit()
    outcomes = {}
    every = list(STAGES)
    for stage in every[: 1 + max(map(every.index, stages or every))]:
        subject, chance = Subject(checkout, stage), random.Random(f"{seed}/{stage}")  # noqa: S311 - no secret
        outcome = Outcome(subject.undisturbed_life())
        if stage in (stages or [stage]):
            while outcome.kills.total() < kills:
                subject.live(outcome, min(chance.randint(2, MOST_KILLS), kills - outcome.kills.total()), chance)
            outcomes[stage] = outcome
            print(_row(stage, outcome), flush=True)
    return outcomes


def _row(stage: str, outcome: Outcome) -> str:
    by_kind = " | ".join(str(outcome.kills[kind]) for kind in KINDS)
    same = f"{outcome.lives - outcome.different} of {outcome.lives}"
    lost = f"{outcome.lost:.1f} s" if outcome.with_state else ""
    counts = f"{outcome.with_state} | {outcome.resumed} | {lost} | {outcome.mended}"
    return f"| `{stage}` | {outcome.life:.0f} s | {by_kind} | {counts} | {same} |"


def table(outcomes: dict[str, Outcome]) -> str:
    """Return the table as Markdown."""
    head = [
        "stage",
        "life",
        *KINDS,
        "killed with a saved state",
        "resumed",
        "since the last save, at most",
        "dvc's file cut short",
        "same bytes",
    ]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(_row(*item) for item in outcomes.items())])


def main() -> None:
    """Kill the stages and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="of each stage, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--stages", nargs="*", default=[], help="none = all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = kill_stages(Path(folder), arguments.stages, arguments.kills, arguments.seed)
    print("\n" + table(outcomes))
    sys.exit(any(outcome.different for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
