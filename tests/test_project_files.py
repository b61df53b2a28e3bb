"""The files around the code agree with each other, and the wheel works outside of the repository."""

import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from support.checkout import Checkout, fresh_checkout


def test_citation_and_changes_name_the_version(root):
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    citation = YAML(typ="safe", pure=True).load(root / "CITATION.cff")
    assert citation["version"] == version
    assert f"\n## {version}\n" in (root / "CHANGELOG.md").read_text()


def test_continuous_integration_runs_the_script_and_forms_have_what_they_need(root):
    yaml = YAML(typ="safe", pure=True)
    steps = yaml.load(root / ".github" / "workflows" / "ci.yml")["jobs"]["check"]["steps"]
    assert steps[-1] == {"run": ".ci/run"}
    for name in ("bug", "feature"):
        form = yaml.load(root / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml")
        assert form["name"]
        assert all({"type", "attributes"} <= field.keys() for field in form["body"])


def test_make_lists_every_target_by_task(root):
    listed = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^  ([a-z-]+) +\S", listed, re.MULTILINE)
    declared = re.search(r"^\.PHONY: (.+)$", (root / "Makefile").read_text(), re.MULTILINE)
    assert declared
    assert targets == declared[1].split()
    assert re.findall(r"^(\w+)$", listed, re.MULTILINE) == ["Train", "Look", "Share", "Develop"]


@pytest.mark.slow
def test_the_wheel_works_outside_of_the_repository(root: Path, finished: Checkout, tmp_path: Path):
    """Run ``make wheel``'s command, then load a run with the wheel alone, torch and the like beside it."""
    source = fresh_checkout(root, tmp_path / "source")
    source.run(sys.executable, "-m", "build", "--wheel", "--no-isolation")
    (wheel,) = (source.folder / "dist").glob("*.whl")
    source.run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    (packages,) = (tmp_path / "venv").glob("lib/python3*/site-packages")
    source.run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), str(wheel))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    script = """
import sys
from pathlib import Path
import latentline
assert Path(latentline.__file__).is_relative_to(sys.prefix), latentline.__file__
from latentline import load
model = load(sys.argv[1])
images = model.decode(model.sample(2, model.condition(label=0), steps=2))
assert images.shape == (2, *model.image_shape)
from latentline.report.page import templates
templates(html=True).get_template("page.html")
import latentline.web
assert (Path(latentline.web.__file__).parent / "page" / "pipeline.js").exists()
"""
    python = tmp_path / "venv" / "bin" / "python"
    (tmp_path / "elsewhere").mkdir()
    Checkout(tmp_path / "elsewhere").run(str(python), "-c", script, str(finished.folder))
