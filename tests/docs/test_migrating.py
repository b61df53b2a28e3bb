"""docs/migrating.md: every setting, command, file and Python name of its last column exists and accepts its value."""

import re
import shlex
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter
from ruamel.yaml import YAML

from latentline.core.load_params import read_params
from latentline.trained_model import TrainedModel
from stages.schema import Params

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = {
    "Diffusion Autoencoder (DiffAE)",
    "Minimal DDIM for MNIST with Feature Conditioning",
    "Latent diffusion (from scratch)",
    "MNIST/EMNIST/FashionMNIST",
    "Diffusion Model with Variational Autoencoder",
}


def _rows() -> dict[str, list[list[str]]]:
    """Heading -> the cells of its table's rows."""
    sections = re.split(r"^## (.+)$", (ROOT / "docs" / "migrating.md").read_text(), flags=re.MULTILINE)[1:]
    rows = {}
    for heading, text in zip(sections[::2], sections[1::2], strict=True):
        lines = [line for line in text.splitlines() if line.startswith("|")][2:]
        rows[heading] = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return rows


ROWS = _rows()
CLAIMS = sorted({claim for rows in ROWS.values() for *_, here in rows for claim in re.findall("`([^`]+)`", here)})


@cache
def _pipeline() -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]


@cache
def _outs() -> set[str]:
    kinds = ("outs", "metrics", "plots")
    entries = [entry for stage in _pipeline().values() for kind in kinds for entry in stage.get(kind, [])]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


@cache
def _source() -> str:
    return "\n".join(path.read_text() for folder in ("src", "stages") for path in (ROOT / folder).rglob("*.py"))


def _check_setting(name: str, value: str | None) -> None:
    content, model = read_params(ROOT / "params.yaml"), Params
    *sections, last = name.split(".")
    for section in sections:
        content, annotation = content[section], model.model_fields[section].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel), section
        model = annotation
    assert last in content
    field = model.model_fields[last]
    if value is not None:
        kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        TypeAdapter(kind).validate_python(YAML(typ="safe", pure=True).load(value))


def _check_command(command: str) -> None:
    program, target, *rest = shlex.split(command)
    if program == "make":
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        for argument in rest:
            name, value = argument.split("=")
            assert (target, name) == ("recipe", "NAME")
            assert (ROOT / "recipes" / f"{value}.yaml").is_file()
    elif target == "exp":
        assert rest in (["run"], ["apply"])
    else:
        assert target in {"repro", "checkout"}
        assert set(rest) <= _pipeline().keys()


def _check_path(path: str) -> None:
    """Accept a file of the repository, or a path below a stage's out that the source names."""
    if (ROOT / path).exists() and not path.startswith(("fig/", "metrics/", "checkpoints/")):
        return
    assert any(f"{path}/".startswith(f"{out}/") for out in _outs())
    name = Path(path).name.split("*")[0].split(".")[0]
    # The source writes it as a file, as a folder, or as a name to which a suffix or a number is added.
    written = rf'["/]{name}("|{{|\.(png|csv|json|safetensors)")'
    assert path in _outs() or re.search(written, _source()), name


def _check(claim: str) -> None:
    setting = re.fullmatch(r"([a-z_]+(?:\.[a-z0-9_]+)+)(?:: (.+))?", claim)
    if claim.startswith(("make ", "dvc ")):
        _check_command(claim)
    elif claim.startswith("model."):
        assert hasattr(TrainedModel, claim.removeprefix("model."))
    elif claim.startswith("latentline."):
        module, name = claim.rsplit(".", 1)
        assert hasattr(import_module(module), name)
    elif setting and setting[1].split(".")[0] in Params.model_fields:
        _check_setting(setting[1], setting[2])
    else:
        _check_path(claim)


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_the_tables_name_exists(claim):
    _check(claim)


def test_every_project_has_its_table_and_every_row_names_something():
    assert ROWS.keys() == PROJECTS
    for rows in ROWS.values():
        assert len(rows) > 10
        for row in rows:
            assert len(row) == 3
            assert "`" in row[2], row


@pytest.mark.parametrize(
    "wrong",
    [
        "denoiser.epoch",
        "denoiser.epochs: many",
        "denoiser.name: gan",
        "optimizer.lr",
        "make nothing",
        "make recipe NAME=nothing",
        "dvc repro nothing",
        "dvc nothing",
        "fig/sample/of_nothing.png",
        "fig/nothing/grid.png",
        "recipes/nothing.yaml",
        "model.nothing",
        "latentline.nothing",
        "nothing",
    ],
)
def test_a_wrong_claim_is_refused(wrong):
    with pytest.raises((AssertionError, KeyError, ValueError)):
        _check(wrong)


def test_make_show_opens_the_latest_grid(tmp_path):
    makefile = ROOT / "Makefile"
    command = ["make", "--file", str(makefile), "show", f"PYTHON={sys.executable}"]
    missing = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert missing.returncode != 0
    assert "error: fig/sample/grid.png is missing; run `dvc repro sample`" in missing.stderr
    (tmp_path / "fig" / "sample").mkdir(parents=True)
    (tmp_path / "fig" / "sample" / "grid.png").touch()
    viewer = tmp_path / "viewer"
    viewer.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/shown\n')
    viewer.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "BROWSER": f"{viewer} %s"}
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert (tmp_path / "shown").read_text() == f"file://{tmp_path}/fig/sample/grid.png"
