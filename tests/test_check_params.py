"""A bad params.yaml costs nothing: the first stage refuses it, before DVC removes what any other stage has written."""

import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentline.core.files import sha256_file
from support.checkout import CHECK, Checkout

PLACES = ("data", "checkpoints", "encoded_img", "fig", "metrics", "dvc.lock")
BAD = {"denoiser.epochs": -1, "data.image_size": "large"}  # each would run another stage again
PATIENCE = 300  # seconds


def _everything(checkout: Checkout) -> dict[str, str]:
    """Return the sha256 of every file that stages write, by its path."""
    places = [checkout.folder / place for place in PLACES]
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place]) if file.is_file()]
    return {file.relative_to(checkout.folder).as_posix(): sha256_file(file) for file in sorted(files)}


def _refused(checkout: Checkout, *command: str) -> str:
    """Run DVC, which must fail; return all that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *command],
        cwd=checkout.folder,
        env=checkout.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode != 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _ran(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


def test_repro_refuses_a_bad_setting_and_loses_nothing(copy):
    before = _everything(copy)
    assert len(before) > 50
    for setting, value in BAD.items():
        copy.change(**{setting: value})
        output = _refused(copy, "repro")
        assert _ran(output) == [CHECK]
        assert re.search(
            rf"^error: params\.yaml: {re.escape(setting)} \([^)]*{value}[^)]*\) must be ", output, re.MULTILINE
        )
        assert _everything(copy) == before
        copy.run("git", "checkout", "--quiet", "params.yaml")
    assert copy.repro() == set()


@pytest.mark.parametrize(
    "target",
    [
        ["sample"],
        ["--keep-going"],
        pytest.param(["--force", "train_denoiser"], marks=pytest.mark.slow),
        pytest.param(["--pull"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_no_way_of_calling_repro_loses_anything(copy, target):
    """Refuse a bad setting, however DVC is called: the stage's name alone and --keep-going guard most of it."""
    before = _everything(copy)
    copy.change(**{"sample.steps": 0})
    assert _ran(_refused(copy, "repro", *target)) == [CHECK]
    assert _everything(copy) == before


@pytest.mark.parametrize("elsewhere", [[], pytest.param(["--temp"], marks=pytest.mark.slow)], ids=["workspace", "temp"])
def test_an_experiment_refuses_a_bad_setting_and_loses_nothing(copy, elsewhere):
    """Refuse a bad setting: in the workspace, which has something to lose, and as a slow test in another folder."""
    before = _everything(copy)
    output = _refused(copy, "exp", "run", *elsewhere, "--set-param", "sample.steps=0")
    assert _ran(output) == [CHECK]
    assert "error: params.yaml: sample.steps (0) must be " in output
    assert _everything(copy) == before


@pytest.mark.slow
def test_an_experiment_in_a_temporary_folder_checks_and_runs_only_what_follows(copy):
    """Run in a temporary folder what test_small_repro's experiment runs in the workspace."""
    output = copy.dvc("exp", "run", "--temp", "--name", "good", "--set-param", "sample.steps=3")
    assert set(_ran(output)) == {CHECK, "sample", "evaluate"}


@pytest.mark.slow
def test_the_queue_refuses_a_bad_setting_and_runs_a_good_one(copy):
    before = _everything(copy)
    for name, steps in (("bad", 0), ("good", 3)):
        copy.dvc("exp", "run", "--queue", "--name", name, "--set-param", f"sample.steps={steps}")
    copy.dvc("queue", "start")
    deadline = time.monotonic() + PATIENCE
    while not all(word in (status := copy.dvc("queue", "status")) for word in ("Failed", "Success")):
        assert time.monotonic() < deadline, status
        time.sleep(1)
    assert _ran(copy.dvc("queue", "logs", "bad")) == [CHECK]
    assert set(_ran(copy.dvc("queue", "logs", "good"))) == {CHECK, "sample", "evaluate"}
    assert _everything(copy) == before


def test_a_comment_or_the_schema_runs_the_check_alone_and_its_out_is_always_the_same(copy):
    out = copy.folder / "data" / "params_checked.json"
    before = out.read_bytes()
    with (copy.folder / "params.yaml").open("a") as file:
        file.write("# a comment\n")
    schema = copy.folder / "stages" / "schema.py"
    schema.write_text(schema.read_text() + "\n# edited\n")
    assert copy.repro() == {CHECK}
    assert out.read_bytes() == before


def test_one_stage_alone_needs_no_check(copy):
    (copy.folder / "data" / "params_checked.json").unlink()
    copy.change(**{"sample.steps": 3})
    assert copy.repro("--single-item", "sample") == {"sample"}


def test_the_check_takes_a_second_or_two_of_one_core(copy):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    copy.run(sys.executable, "-m", f"stages.{CHECK}")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 4


def test_a_refusal_by_one_stage_alone_is_mended_by_checkout(copy):
    """DVC has removed the outs by then: docs/reliability.md gives the two commands."""
    before = _everything(copy)
    copy.change(**{"sample.steps": 0})
    _refused(copy, "repro", "--single-item", "sample")
    assert not Path(copy.folder / "data" / "generated").exists()
    copy.run("git", "checkout", "--quiet", "params.yaml", "fig", "metrics")
    copy.dvc("checkout")
    assert _everything(copy) == before
    assert copy.repro() == set()
