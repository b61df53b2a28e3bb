"""Reading params.yaml: what is no plain mapping, incomplete or unknown is refused; a stage receives its sections."""

import copy
import io
import itertools
import re
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


def _section(content: dict[str, Any], setting: str) -> tuple[dict[str, Any], str]:
    *parents, name = setting.split(".")
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


@pytest.mark.parametrize(
    "setting", ["sed", "dat", "data.nmae", "autoencoder.optimizer.momentum", "denoiser.preview.stepz", "compute.cores"]
)
def test_an_unknown_setting_is_refused_by_name(content, tmp_path, setting):
    section, name = _section(content, setting)
    section[name] = 1
    (line,) = _refusal(_written(tmp_path, content))
    assert re.search(
        rf": {re.escape(setting)} \(1\) must be a setting that recipes/default\.yaml has; (rename it|correct)", line
    )


@pytest.mark.parametrize(
    "setting",
    ["seed", "data", "data.name", "data.root", "autoencoder.optimizer.lr", "denoiser.process.path", "compute.threads"],
)
def test_a_missing_setting_is_refused_by_name(content, tmp_path, setting):
    section, name = _section(content, setting)
    del section[name]
    (line,) = _refusal(_written(tmp_path, content))
    assert f": {setting} (missing) must be set; run `make params`, which adds its default" in line


def test_a_name_close_to_a_setting_is_answered_with_that(content, tmp_path):
    content["data"]["nmae"] = "digits"
    (line,) = _refusal(_written(tmp_path, content))
    assert line.endswith(
        "data.nmae ('digits') must be a setting that recipes/default.yaml has; rename it to name, or remove it"
    )


def test_what_is_missing_is_named_setting_by_setting_without_the_rules_across_settings(content, tmp_path):
    content["autoencoder"]["name"] = "diffae"  # which needs the mlp
    del content["denoiser"]["name"], content["denoiser"]["heads"], content["compute"]["trackers"]
    content["seed"] = -1
    names = [
        line.removeprefix(f"{tmp_path / 'params.yaml'}: ").split()[0] for line in _refusal(_written(tmp_path, content))
    ]
    assert names == ["denoiser.name", "denoiser.heads", "compute.trackers", "seed"]


def test_all_bad_settings_are_named_at_once(content, tmp_path):
    content["seed"], content["sample"]["steps"], content["compute"]["device"] = -1, 0, "tpu"
    lines = _refusal(_written(tmp_path, content))
    assert [
        next(setting for setting in ("seed", "sample.steps", "compute.device") if setting in line) for line in lines
    ] == [
        "seed",
        "sample.steps",
        "compute.device",
    ]


def test_a_value_that_is_refused_is_shown_with_what_was_expected_and_the_remedy(content, tmp_path):
    content["sample"]["steps"] = 0
    (line,) = _refusal(_written(tmp_path, content))
    assert line.endswith(": sample.steps (0) must be an integer from 1 to 100000; correct it, or take the default, 9")


BAD_FILES = {
    "empty": "",
    "a list": "- seed\n",
    "a word": "seed\n",
    "a duplicate section": "data: {}\ndata: {}\n",
    "a duplicate setting": "data:\n  name: digits\n  name: digits\n",
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


def test_a_stage_refuses_a_bad_setting_of_another_stage(content, tmp_path):
    content["evaluate"]["neighbours"] = 0
    with pytest.raises(UserError, match=r"evaluate\.neighbours"):
        load("sample", SampleParams, _written(tmp_path, content))


def test_sections_are_frozen(content):
    params = validate(copy.deepcopy(content))
    with pytest.raises(ValueError, match="frozen"):
        params.data.limit = 5
