"""``make params``: the models are the one source of recipes/default.yaml and of the comments in params.yaml."""

import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from latentline.core.errors import UserError
from latentline.core.load_params import parse_params, schema, validate
from latentline.tools import params_file
from latentline.tools.params_file import default_text, read_recipe, refreshed, value_text
from latentline.tools.recipe import REASON, complete_text, read_settings


def _without(text: str, name: str) -> str:
    """Return a params file without the setting or section of that dotted name, and without all comments."""
    content = parse_params(text)
    *parents, last = name.split(".")
    section = content
    for parent in parents:
        section = section[parent]
    del section[last]
    return _dumped(content)


def _dumped(content: object) -> str:
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(content, stream)
    return stream.getvalue()


def test_the_default_has_every_field_in_the_models_order_with_its_docstring():
    _, settings = read_settings(default_text(), "default")
    by_name = {setting.name: setting for setting in settings}
    assert parse_params(default_text()) == schema()().model_dump()
    assert list(parse_params(default_text())) == list(schema().model_fields)
    assert by_name["denoiser.heads"].comment == "Attention heads; dit only."
    assert all(REASON not in setting.comment for setting in settings)


@pytest.mark.parametrize("name", ["default", "digits", "sd_vae"])
def test_a_complete_file_stays_as_it_is(name, root):
    text = complete_text(name, root)
    assert refreshed(text) == text


@pytest.mark.parametrize(
    "missing", ["seed", "denoiser.heads", "data.splits", "compute", "autoencoder.diffae.patch_size"]
)
def test_what_is_missing_is_added_with_its_default(missing, root):
    text = refreshed(_without(complete_text("default", root), missing))
    assert text == default_text()


def test_values_of_the_user_stay_in_whatever_form_yaml_has_them(root):
    content = parse_params(default_text())
    content["denoiser"]["channels"], content["denoiser"]["optimizer"]["lr"] = [8, 16, 24], 1
    content["data"]["path"], content["data"]["classes"] = "my: pictures #1", ["yes", "T-shirt/top", "a, b"]
    text = refreshed(_dumped(content))
    assert parse_params(text) == content
    assert "  channels: [8, 16, 24]" in text
    assert validate(parse_params(text)).data.classes == ["yes", "T-shirt/top", "a, b"]


def test_comments_are_refreshed_and_reasons_and_the_header_stay():
    comment = "# Attention heads; dit only."
    mine = default_text().replace("# All settings.", "# My file.")
    assert mine.count(comment) == 1
    assert refreshed(mine.replace(comment, "# Old. Here: mine")) == mine.replace(comment, f"{comment} Here: mine")


def test_a_file_that_an_experiment_has_rewritten_keeps_its_values_and_reasons():
    text = (
        default_text()
        .replace("dit only.", "dit only. Here: mine")
        .replace("channels: [64, 64]", "channels:\n  - 32\n  - 64")
    )
    assert parse_params(refreshed(text))["denoiser"]["channels"] == [32, 64]
    assert "Here: mine" in refreshed(text)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "  heads: 4",
            "  haeds: 4",
            "denoiser.haeds (4) must be a setting that recipes/default.yaml has; rename it to heads",
        ),
        ("seed: 0", "seed: -1", "seed (-1) must be an integer of at least 0 and below 4294967296; "),
        ("  splits:", "  splits: 3\n  other:", "data.splits (3) must be a section with settings; "),
    ],
)
def test_what_is_unknown_or_bad_is_refused_in_one_line_and_nothing_is_written(workplace, monkeypatch, old, new, line):
    text = default_text().replace(old, new, 1)
    with pytest.raises(UserError) as caught:
        refreshed(text)
    assert str(caught.value).splitlines()[0].startswith(f"params.yaml: {line}")
    (workplace / "recipes").mkdir()
    (workplace / "params.yaml").write_text(text)
    with pytest.raises(SystemExit, match=r"error: params\.yaml: "):
        params_file.main()
    assert (workplace / "params.yaml").read_text() == text
    assert not (workplace / "recipes" / "default.yaml").exists()


def test_both_files_are_written(workplace):
    (workplace / "recipes").mkdir()
    (workplace / "params.yaml").write_text(_without(default_text(), "denoiser.heads"))
    params_file.main()
    assert (
        (workplace / "params.yaml").read_text()
        == (workplace / "recipes" / "default.yaml").read_text()
        == default_text()
    )


def test_a_recipe_is_read_as_a_whole_file(root):
    assert read_recipe("default", root) == schema()().model_dump()
    assert read_recipe("digits", root)["data"]["name"] == "digits"
    assert read_recipe("digits", root).keys() == schema().model_fields.keys()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3e-3, "3e-3"),
        (1.5e-4, "1.5e-4"),
        (0.01, "0.01"),
        (1e4, "1e4"),
        (0.0, "0.0"),
        (60.0, "60.0"),
        (None, "null"),
        (True, "true"),
        ([0.995], "[0.995]"),
        ("data/source", "data/source"),
        ("no", '"no"'),
        ("1e4", '"1e4"'),
        ("a: b", '"a: b"'),
        ([], "[]"),
        ({}, "{}"),
        ({"age": "continuous", "a: b": "binary"}, '{age: continuous, "a: b": binary}'),
    ],
)
def test_a_value_has_one_form(value, text):
    assert value_text(value) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        st.lists,
    )
)
def test_a_value_is_read_as_it_was_written(value):
    found = parse_params(f"x: {value_text(value)}\n", Path("x"))["x"]
    assert found == value
    assert not isinstance(value, float) or math.copysign(1, found) == math.copysign(1, value)
