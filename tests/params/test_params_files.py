"""params.yaml and the recipes, as they are in this repository."""

import copy
import re
from pathlib import Path

import pytest

from latentline.core.load_params import parse_params, read_params, schema, validate
from latentline.tools.params_file import default_text
from latentline.tools.recipe import complete_text, read_settings

RECIPES = [path.stem for path in sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))]


@pytest.fixture(scope="module")
def texts(root: Path) -> dict[str, str]:
    """params.yaml and every complete recipe."""
    return {"params.yaml": (root / "params.yaml").read_text(), **{name: complete_text(name, root) for name in RECIPES}}


def test_params_and_every_recipe_are_valid(texts):
    for name, text in texts.items():
        assert validate(parse_params(text), Path(name)).seed >= 0


def test_the_recipes_that_other_pages_name_are_there():
    assert {"default", "diffae", "features_ddim", "ldm_celeba", "pixel_ddpm", "latent_flow", "sd_vae"} <= set(RECIPES)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "default"])
def test_a_recipe_has_only_what_differs_and_a_line_on_its_purpose(name, root):
    text = (root / "recipes" / f"{name}.yaml").read_text()
    header, changes = read_settings(text, name)
    default = {
        setting.path: setting
        for setting in read_settings((root / "recipes" / "default.yaml").read_text(), "default")[1]
    }
    assert header[0].startswith(f"# Recipe {name}: ")
    assert len(changes) < 64
    for change in changes:
        assert change.value != default[change.path].value or not change.value or change.comment, change.name
    assert max(map(len, text.splitlines())) <= 120


def test_the_kind_and_the_network_of_the_autoencoder_can_be_changed_alone_in_every_file(texts):
    for text in texts.values():
        parsed = parse_params(text)
        for name in ("identity", "ae", "vae", "diffae"):
            content = copy.deepcopy(parsed)
            content["autoencoder"]["name"] = name
            vectors = name == "diffae" or (name != "identity" and content["autoencoder"]["latent_dim"])
            content["denoiser"]["name"] = "mlp" if vectors else "unet"
            if name == "diffae":  # which refuses them
                content["autoencoder"]["perceptual_weight"] = content["autoencoder"]["adversarial"]["weight"] = 0.0
            validate(content)
        for network in ("conv", "stable_diffusion"):
            content = copy.deepcopy(parsed)
            content["autoencoder"]["network"] = network
            validate(content)


def test_a_clone_starts_with_the_default_recipe(root):
    assert (root / "recipes" / "default.yaml").read_text() == (root / "params.yaml").read_text()


def test_the_default_recipe_is_what_the_models_say(root):
    assert (root / "recipes" / "default.yaml").read_text() == default_text(), "run `make params`"


def test_the_defaults_of_the_models_are_valid():
    assert validate(schema()().model_dump()) == schema()()


def test_the_files_hold_plain_values_that_experiments_can_rewrite(texts):
    for name, text in texts.items():
        without_comments = re.sub(r"#.*", "", text)
        assert not re.search(r"[&*]\w|\$\{|!!|<<:", without_comments), name


def test_the_default_draws_ten_thousand_images_of_a_named_data_set(root):
    content = read_params(root / "params.yaml")
    assert content["sample"]["count"] == 10_000
    assert content["data"]["root"] is None
    assert content["data"]["limit"] is None


def test_every_setting_is_explained_beside_or_above_it(texts):
    for text in texts.values():
        _, settings = read_settings(text, "")
        assert [setting.name for setting in settings if setting.value and not setting.comment] == []
        assert max(map(len, text.splitlines())) <= 120
