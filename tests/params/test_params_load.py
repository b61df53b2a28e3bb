import copy
import io
import itertools
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from latentline.core.compute_params import ComputeParams
from latentline.core.errors import UserError
from latentline.core.load_params import load, read_params, validate
from stages.download.params import DataParams
from stages.sample.params import SampleParams


@pytest.fixture
def content(root: Path) -> dict[str, Any]:
    return read_params(root / "params.yaml")


def _section(content: dict[str, Any], knob: str) -> tuple[dict[str, Any], str]:
    *parents, name = knob.split(".")
    for parent in parents:
        content = content[parent]
    return content, name


def _written(folder: Path, content: Any) -> Path:
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(content, text)
    path = folder / "params.yaml"
    path.write_text(text.getvalue())
    return path


def _refusal(path: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        load("data", DataParams, path)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("knob", ["sed", "dat", "data.nmae", "autoencoder.optimizer.momentum", "denoiser.preview.stepz", "compute.cores"])
def test_an_unknown_knob_is_refused_by_name(content, tmp_path, knob):
    section, name = _section(content, knob)
    section[name] = 1
    (line,) = _refusal(_written(tmp_path, content))
    assert f"{knob}: unknown knob" in line


@pytest.mark.parametrize("knob", ["seed", "data", "data.name", "data.root", "autoencoder.optimizer.lr", "denoiser.process.path", "compute.threads"])
def test_a_missing_knob_is_refused_by_name(content, tmp_path, knob):
    section, name = _section(content, knob)
    del section[name]
    (line,) = _refusal(_written(tmp_path, content))
    assert f"{knob}: missing" in line


def test_all_bad_knobs_are_named_at_once(content, tmp_path):
    content["seed"], content["sample"]["steps"], content["compute"]["device"] = -1, 0, "tpu"
    lines = _refusal(_written(tmp_path, content))
    assert [next(knob for knob in ("seed", "sample.steps", "compute.device") if knob in line) for line in lines] == [
        "seed",
        "sample.steps",
        "compute.device",
    ]


def test_a_value_that_is_refused_is_shown_with_what_was_expected_and_the_remedy(content, tmp_path):
    content["sample"]["steps"] = 0
    (line,) = _refusal(_written(tmp_path, content))
    assert "sample.steps: 0 is refused; expected a number greater than or equal to 1; set it as" in line
    assert "recipes/default.yaml" in line


BAD_FILES = {
    "empty": "",
    "a list": "- seed\n",
    "a word": "seed\n",
    "a duplicate section": "data: {}\ndata: {}\n",
    "a duplicate knob": "data:\n  name: digits\n  name: digits\n",
    "a tab": "data:\n\tname: digits\n",
    "an unclosed bracket": "data: [1, 2\n",
    "an unclosed quote": "data: 'x\n",
    "two documents": "seed: 0\n---\nseed: 1\n",
    "a python object": "seed: !!python/object/apply:os.getcwd []\n",
    "a python name": "seed: !!python/name:os.system\n",
    "an unknown tag": "seed: !secret 0\n",
    "an unknown alias": "seed: *x\n",
    "a control character": "seed: \x00\n",
    "a text as a tagged number": "seed: !!int x\n",
    "a date that is none": "seed: 2001-99-99\n",
    "a number of absurd length": "seed: " + "9" * 5000 + "\n",
    "a version of the future": "%YAML 3.0\n---\nseed: 0\n",
    "bytes that are none": "seed: !!binary x\n",
    "an alias of itself": "seed: &x [*x]\n",
    "laughs, a billion": "a: &a [1, 1]\n"
    + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in itertools.pairwise("abcdefghijklmnopqrstuvwxyz")),
    "merged laughs": "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: {<<: [*b, *b]}\n",
    "a deep list": "[" * 50_000,
    "a deep section": "\n".join(" " * depth + "a:" for depth in range(500)),
    "a huge file": "# " + "x" * 300_000,
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_plain_mapping_is_refused_in_one_line_that_names_it(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    (line,) = _refusal(path)
    assert str(path) in line


def test_a_missing_file_and_one_of_other_encoding_are_refused_by_name(tmp_path):
    assert "is missing" in _refusal(tmp_path / "absent.yaml")[0]
    (tmp_path / "latin.yaml").write_bytes("seed: 0 # größe".encode("latin-1"))
    assert "latin.yaml" in _refusal(tmp_path / "latin.yaml")[0]


def test_numbers_with_an_exponent_are_numbers(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1e-4\nb: 2E3\nc: 1.5e+2\n")
    assert read_params(path) == {"a": 1e-4, "b": 2000.0, "c": 150.0}


def test_a_whole_number_serves_where_a_fraction_is_expected(content):
    content["autoencoder"]["optimizer"]["lr"] = 1
    assert validate(content).autoencoder.optimizer.lr == 1


def test_a_stage_receives_its_section_the_seed_and_compute(content, tmp_path):
    content["seed"], content["sample"]["steps"], content["compute"]["threads"] = 11, 5, 3
    section, seed, compute = load("sample", SampleParams, _written(tmp_path, content))
    assert isinstance(section, SampleParams)
    assert isinstance(compute, ComputeParams)
    assert (section.steps, seed, compute.threads) == (5, 11, 3)


def test_a_stage_refuses_a_bad_knob_of_another_stage(content, tmp_path):
    content["evaluate"]["neighbours"] = 0
    with pytest.raises(UserError, match=r"evaluate\.neighbours"):
        load("sample", SampleParams, _written(tmp_path, content))


def test_sections_are_frozen(content):
    params = validate(copy.deepcopy(content))
    with pytest.raises(ValueError, match="frozen"):
        params.data.limit = 5
