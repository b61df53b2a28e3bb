"""params.yaml and the recipes, as they are in this repository."""

import re
from pathlib import Path

import pytest

from latentline.core.load_params import read_params, validate


@pytest.fixture(scope="module")
def files(root: Path) -> list[Path]:
    return [root / "params.yaml", *sorted((root / "recipes").glob("*.yaml"))]


def test_params_and_every_recipe_are_valid(files):
    for path in files:
        assert validate(read_params(path), path).seed >= 0


def test_the_kind_and_the_network_of_the_autoencoder_can_be_changed_alone_in_every_file(files):
    for path in files:
        for name in ("identity", "ae", "vae", "diffae"):
            content = read_params(path)
            content["autoencoder"]["name"] = name
            vectors = name == "diffae" or (name != "identity" and content["autoencoder"]["latent_dim"])
            content["denoiser"]["name"] = "mlp" if vectors else "unet"
            if name == "diffae":  # which refuses them
                content["autoencoder"]["perceptual_weight"] = content["autoencoder"]["adversarial"]["weight"] = 0.0
            validate(content, path)
        for network in ("conv", "stable_diffusion"):
            content = read_params(path)
            content["autoencoder"]["network"] = network
            validate(content, path)


def test_a_clone_starts_with_the_default_recipe(root):
    default = root / "recipes" / "default.yaml"
    assert not default.exists() or default.read_text() == (root / "params.yaml").read_text()


def test_the_files_hold_plain_values_that_experiments_can_rewrite(files):
    for path in files:
        without_comments = re.sub(r"#.*", "", path.read_text())
        assert not re.search(r"[&*]\w|\$\{|!!|<<:", without_comments), path


def test_the_default_draws_ten_thousand_images_of_a_known_data_set(root):
    content = read_params(root / "params.yaml")
    assert content["sample"]["count"] == 10_000
    assert content["data"]["root"] is None
    assert content["data"]["limit"] is None


def test_every_knob_is_explained_beside_it(root):
    """All but an optimizer's knobs after the first time, and epochs."""
    inside_optimizer = False
    unexplained = []
    for line in (root / "params.yaml").read_text().splitlines():
        knob = re.match(r"(?P<indent> *)(?P<name>\w+):(?P<value>[^#]*)(?P<comment>#.*)?$", line)
        if not knob:
            continue
        inside_optimizer = knob["name"] == "optimizer" or (inside_optimizer and len(knob["indent"]) == 4)
        if knob["value"].strip() and not knob["comment"] and not inside_optimizer and knob["name"] != "epochs":
            unexplained.append(line)
    assert unexplained == []
