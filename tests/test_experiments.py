"""The commands of docs/experiments.md do what the page promises: the queue, one experiment per GPU, SLURM."""

import csv
import io
import os
import shlex
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from support.checkout import Checkout
from support.documented import Page

ON_FREE_GPU = Path("examples") / "on_free_gpu.py"
SBATCH = Path("examples") / "slurm" / "experiments.sbatch"
JOB = """
import os, sys, time
def note(what):
    with open(sys.argv[1], "a") as log:
        log.write(f"{time.monotonic()} {os.environ['CUDA_VISIBLE_DEVICES']} {what}\\n")
note("begins")
time.sleep(0.1)
note("ends")
"""
PATIENCE = 900  # seconds


def _start(root: Path, gpus: str, *command: str, locks: Path, stdout: int | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "LATENTLINE_GPU_LOCKS": str(locks)}
    return subprocess.Popen(
        [sys.executable, root / ON_FREE_GPU, gpus, *command], env=environment, stdout=stdout, text=True
    )


def test_no_two_jobs_ever_have_one_gpu_and_every_job_runs(root, tmp_path):
    log = tmp_path / "log"
    jobs = [_start(root, "0,3", sys.executable, "-c", JOB, str(log), locks=tmp_path) for _ in range(5)]
    assert [job.wait(timeout=60) for job in jobs] == [0] * 5
    notes = sorted((float(moment), gpu, what) for moment, gpu, what in map(str.split, log.read_text().splitlines()))
    by_gpu = {gpu: [what for _, other, what in notes if other == gpu] for gpu in ("0", "3")}
    assert sum(len(whats) for whats in by_gpu.values()) == 2 * 5
    for whats in by_gpu.values():
        assert len(whats) >= 2  # both were used
        assert all(one != next_one for one, next_one in pairwise(["ends", *whats]))  # begins, ends, begins, ...


def test_a_gpu_is_free_again_when_its_job_is_killed(root, tmp_path):
    with _start(root, "0", "sh", "-c", "echo has it; exec sleep 60", locks=tmp_path, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "has it\n"
        first.kill()
    second = _start(root, "0", "sh", "-c", "exit 7", locks=tmp_path)
    assert second.wait(timeout=10) == 7  # the job's own status


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """Return a folder with stand-ins for SLURM's commands; each writes its arguments to a file of its name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "srun"):
        command = folder / name
        command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/{name}"\n')
        command.chmod(0o755)
    return tmp_path


def _shell(cluster: Path, *command: str, **variables: str) -> None:
    path = f"{cluster / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=cluster, env={**os.environ, "PATH": path, **variables}, check=True, timeout=60)


def test_the_page_submits_one_task_per_line(root, cluster):
    (cluster / "experiments.txt").write_text("--name short\n--name long\n--name longer\n")
    (line,) = (
        line.strip()
        for line in (root / "docs" / "experiments.md").read_text().splitlines()
        if line.startswith("    sbatch")
    )
    _shell(cluster, "bash", "-c", line)
    array, script, lines = (cluster / "sbatch").read_text().splitlines()
    assert array == "--array=1-3"
    assert (root / script).is_file()
    assert lines == "experiments.txt"


def test_a_task_runs_the_experiment_of_its_own_line(root, cluster):
    (cluster / "experiments.txt").write_text("--name short\n--name long --set-param denoiser.epochs=16\n")
    _shell(
        cluster, "bash", str(root / SBATCH), "experiments.txt", SLURM_SUBMIT_DIR=str(cluster), SLURM_ARRAY_TASK_ID="2"
    )
    expected = "dvc --wait-for-lock exp run --temp --name long --set-param denoiser.epochs=16"
    assert (cluster / "srun").read_text().split("\n") == [*expected.split(), ""]


def test_what_sbatch_reads_of_the_template_comes_before_its_first_command(root):
    lines = (root / SBATCH).read_text().splitlines()
    options = [place for place, line in enumerate(lines) if line.startswith("#SBATCH --")]
    commands = [place for place, line in enumerate(lines) if line and not line.startswith("#")]
    assert lines[0].startswith("#!")
    assert options
    assert max(options) < min(commands)


def _experiments(checkout: Checkout, page: Page) -> dict[str, dict[str, str]]:
    """Return the table of `dvc exp show`: name -> column -> value."""
    shown = page.run(checkout, "dvc exp show --only-changed --csv")
    return {row["Experiment"]: row for row in csv.DictReader(io.StringIO(shown)) if row["Experiment"]}


@pytest.mark.slow
def test_the_queue_runs_every_experiment_in_a_copy(root, copy):
    page = Page(root / "docs" / "experiments.md", {})
    page.run(copy, "dvc exp run --queue --name steps --set-param sample.steps=3,4")
    page.run(copy, "dvc queue start")
    deadline = time.monotonic() + PATIENCE
    while (status := page.run(copy, "dvc queue status")).count("Success") < 2 and time.monotonic() < deadline:
        assert "Failed" not in status
        time.sleep(2)
    assert "Running stage 'sample'" in page.run(copy, "dvc queue logs steps-1")
    shown = _experiments(copy, page)
    assert {name: row["network_evaluations"] for name, row in shown.items()} == {
        "steps-1": str(3 * 2 * 2),
        "steps-2": str(4 * 2 * 2),
    }
    assert copy.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_one_experiment_per_gpu_at_the_same_time(root, copy, tmp_path):
    lines = (root / "docs" / "experiments.md").read_text().splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("    xargs"))
    (tmp_path / "experiments.txt").write_text(
        "--name one --set-param sample.steps=1\n--name five --set-param sample.steps=5\n"
    )
    command = " ".join(line.strip().removesuffix("\\") for line in lines[place : place + 2])
    command = command.replace("experiments.txt", str(tmp_path / "experiments.txt"))
    copy.run(*shlex.split(command), LATENTLINE_GPU_LOCKS=str(tmp_path))
    listed = copy.dvc("exp", "list", "--name-only").split()
    assert {"one", "five"} <= set(listed)
    assert copy.run("git", "status", "--porcelain").stdout == ""
