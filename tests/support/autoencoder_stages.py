"""Small settings with which tests run the stages up to the latent cache."""

from pathlib import Path

from ruamel.yaml import YAML

from latentline.tools.params_file import read_recipe

TINY = {
    "epochs": 1,
    "latent_channels": 2,
    "encoder_channels": [8, 16],
    "encoder_blocks": [1, 1],
    "decoder_channels": [8, 16],
    "decoder_blocks": [2, 2],
    "figures": {"height": 4, "width": 5, "scale": 1, "preview_every_epochs": 0},
}
"""Of any autoencoder."""
TINY_DIFFAE = {
    "embedding_dim": 6,
    "encoder_channels": [8, 16],
    "channels": [8],
    "attention_levels": [],
    "condition_width": 8,
    "sample_timesteps": 20,
}
"""Of section ``autoencoder.diffae``."""
FIGURES = {
    "loss.csv",
    "loss.png",
    "reconstructions.png",
    "best_to_worst.png",
    "worst_reconstructions.png",
    "latents.png",
    "interpolations.png",
    "perturbations.png",
}
"""In fig/autoencoder, of any autoencoder that trains."""
PRETRAINED = {"name": "vae", "network": "stable_diffusion", "middle_attention": True}
"""The architecture of fixture ``pretrained``."""


def write_autoencoder_params(folder: Path, root: Path, autoencoder: dict, latents: dict) -> None:
    """Write params.yaml into ``folder``: 40 digits, and a tiny autoencoder with other values of some settings."""
    content = read_recipe("digits", root)
    content["data"] |= {"limit": 40}
    diffae = {**content["autoencoder"]["diffae"], **TINY_DIFFAE, **autoencoder.get("diffae", {})}
    content["autoencoder"] |= {**TINY, **autoencoder, "diffae": diffae}
    content["latents"] |= latents
    vectors = autoencoder.get("latent_dim") or autoencoder.get("name") == "diffae"
    content["denoiser"]["name"] = "mlp" if vectors else "unet"
    content["compute"] |= {"threads": 1, "workers": 0, "device": "cpu"}
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(content, file)


def figure_names() -> set[str]:
    """Return the names of the files in fig/autoencoder."""
    return {path.name for path in Path("fig/autoencoder").iterdir()}
