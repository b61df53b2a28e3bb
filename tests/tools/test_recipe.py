"""``make recipe``: a recipe's differences become the whole, commented params.yaml, or are refused in one line."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from latentline.core.load_params import parse_params
from latentline.tools.recipe import RecipeError, complete_text, merge, read_settings, render

DEFAULT = """\
# All settings.

seed: 0  # Seed.

data:  # Images.
  name: fashion_mnist  # Data set.
  # A comment that stands above its setting, since the line would otherwise be longer than 120 columns, the limit of it.
  path: data/source
  sizes: [1, 2]
  splits:
    val: 0.05  # Fraction.

compute:
  threads: 2
"""


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A folder with what `make recipe` needs of the repository, and a params.yaml."""
    shutil.copytree(root / "recipes", tmp_path / "recipes")
    (tmp_path / "src" / "latentline" / "tools").mkdir(parents=True)
    shutil.copy(root / "src" / "latentline" / "tools" / "recipe.py", tmp_path / "src" / "latentline" / "tools")
    shutil.copy(root / "Makefile", tmp_path)
    (tmp_path / "params.yaml").write_text("mine\n")
    return tmp_path


def _make(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--silent", "recipe", f"NAME={name}", f"PYTHON={sys.executable} -S"]  # -S: no installed packages
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_values_are_replaced_and_comments_stay_with_the_reasons_behind_them():
    recipe = """\
# Recipe x: for tests.
# Takes no time.

seed: 7
data:
  path: "a # b"  # not the usual one
  sizes: []  # none
  splits:
    val: 1e-3
compute:
  threads: 1
"""
    assert (
        merge(DEFAULT, recipe, "x.yaml")
        == """\
# All settings.
#
# Recipe x: for tests.
# Takes no time.

seed: 7  # Seed.

data:  # Images.
  name: fashion_mnist  # Data set.
  # A comment that stands above its setting, since the line would otherwise be longer than 120 columns, the limit of it.
  # Here: not the usual one
  path: "a # b"
  sizes: []  # Here: none
  splits:
    val: 1e-3  # Fraction.

compute:
  threads: 1
"""
    )


def test_a_reason_may_stand_above_its_setting():
    text = merge(DEFAULT, "data:\n  # a reason\n  # of two lines\n  name: digits\n", "x.yaml")
    assert "  name: digits  # Data set. Here: a reason of two lines\n" in text


def test_what_is_read_is_written_again_to_the_same_text(root):
    for text in (DEFAULT, *(complete_text(path.stem, root) for path in (root / "recipes").glob("*.yaml"))):
        assert render(*read_settings(text, "x")) == text


@pytest.mark.parametrize(
    ("recipe", "line"),
    {
        "sed: 1": "sed must be a setting of recipes/default.yaml; rename it to seed",
        "data:\n  splits:\n    vla: 0.1": (
            "data.splits.vla must be a setting of recipes/default.yaml; rename it to data.splits.val"
        ),
        "qqqqqqqqq: 1": "qqqqqqqqq must be a setting of recipes/default.yaml; remove it",
        "seed:\n  x: 1": "seed must have a value on its own line; ",
        "data: 3": "data (3) must be a section; ",
        "data: {name: digits}": "line 1 (data: {name: digits}) must be `name: value` with a plain value",
        "seed:": "seed must have a value on its own line; ",
        "seed: 1\nseed: 2": "line 2 (seed) must not repeat a setting; remove one",
        "data:\n   name: digits": "line 2 (name: digits) must be `name: value` with a plain value, indented by 2",
        "data:\n    name: digits": "line 2 (name: digits) must be `name: value` with a plain value, indented by 2",
        "seed: 1\n  x: 2": "line 2 (x: 2) must be `name: value`",
        "  seed: 1": "line 1 (seed: 1) must be `name: value`",
        "data:\n\tname: digits": "line 2 (name: digits) must be `name: value`",
        "seed: &a 1": "line 1 (seed: &a 1) must be `name: value` with a plain value",
        "seed: *a": "line 1 (seed: *a) must be `name: value` with a plain value",
        "- seed": "line 1 (- seed) must be `name: value`",
        "# header\n\nseed 1": "line 3 (seed 1) must be `name: value`",
    }.items(),
)
def test_a_recipe_that_does_not_fit_is_refused_in_one_line(recipe, line):
    with pytest.raises(RecipeError) as caught:
        merge(DEFAULT, recipe + "\n", "x.yaml")
    assert str(caught.value).startswith(f"x.yaml: {line}")
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_recipe_is_refused_with_those_that_are(root):
    for name in ("nothing", "", "../params", "default.yaml"):
        with pytest.raises(RecipeError, match=r"must be one of default, .*digits.*; run `make recipe NAME=default`"):
            complete_text(name, root)


def test_make_recipe_works_before_anything_is_installed(checkout, root):
    done = _make(checkout, "digits")
    assert (done.returncode, done.stderr) == (0, "")
    text = (checkout / "params.yaml").read_text()
    assert text == complete_text("digits", root)
    assert parse_params(text)["data"]["name"] == "digits"
    assert not list(checkout.glob(".partial-*"))
    assert done.stdout.endswith("recipe digits; what it was, with your changes, is in params.yaml.orig\n")
    assert (checkout / "params.yaml.orig").read_text() == "mine\n"


def test_make_recipe_keeps_no_copy_of_a_recipe(checkout):
    _make(checkout, "digits")
    (checkout / "params.yaml.orig").unlink()
    assert _make(checkout, "icons").stdout == "params.yaml is now recipe icons\n"
    assert not (checkout / "params.yaml.orig").exists()


@pytest.mark.parametrize(("name", "text"), [("nothing", None), ("", None), ("bad", "sed: 1\n"), ("bad", "data: 3\n")])
def test_make_recipe_writes_nothing_where_it_refuses(checkout, name, text):
    if text is not None:
        (checkout / "recipes" / f"{name}.yaml").write_text(text)
    done = _make(checkout, name)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert (checkout / "params.yaml").read_text() == "mine\n"


def test_a_recipe_that_is_no_text_is_refused_in_one_line(checkout):
    (checkout / "recipes" / "bad.yaml").write_bytes(b"seed: 1 # gr\xf6\xdfe\n")
    with pytest.raises(RecipeError, match=r"bad\.yaml must be readable UTF-8 text"):
        complete_text("bad", checkout)
