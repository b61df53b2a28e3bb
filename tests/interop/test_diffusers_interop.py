"""Weights to and from diffusers give the same numbers."""

import json

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from latentline.autoencoders.build import build_autoencoder
from latentline.core.errors import UserError
from latentline.interop.diffusers_folder import write_diffusers_folder
from latentline.interop.diffusers_interop import diffusers_config, from_diffusers, to_diffusers
from stages.train_autoencoder.init_from import load_pretrained

BASE = {
    "image_shape": [3, 16, 24],
    "network": "stable_diffusion",
    "latent_channels": 4,
    "latent_dim": None,
    "encoder_channels": [32, 64, 64],
    "encoder_blocks": [1, 1, 1],
    "decoder_channels": [32, 64, 64],
    "decoder_blocks": [2, 2, 2],
    "groups": 32,
    "attention_levels": [],
    "middle_attention": True,
    "attention_heads": 1,
    "causal_attention": False,
    "reconstruction": "l2",
    "kl_weight": 1e-6,
    "kl_warmup_steps": 0,
}
VARIANTS = {
    "Stable Diffusion's": {},
    "two blocks a level": {"encoder_blocks": [2, 2, 2], "decoder_blocks": [3, 3, 3]},
    "attention at levels": {"attention_levels": [0, 2]},
    "no attention": {"middle_attention": False},
    "other groups, grey": {"groups": 8, "image_shape": [1, 16, 24]},
    "one level": {
        setting: BASE[setting][:1]
        for setting in ("encoder_channels", "encoder_blocks", "decoder_channels", "decoder_blocks")
    },
}


def _pair(awake, **changes):
    """Return a constructor, our network, and an untrained one of theirs."""
    constructor = {**BASE, **changes}
    return (
        constructor,
        awake(build_autoencoder("vae", **constructor)),
        AutoencoderKL.from_config(diffusers_config(constructor)),
    )


@torch.no_grad()
def _assert_equal(vae, theirs, image_shape):
    x, z = torch.randn(2, *image_shape), torch.randn(2, *vae.latent_shape)
    posterior = theirs.encode(x).latent_dist
    for ours, other in zip(vae.posterior(x), (posterior.mean, posterior.logvar), strict=True):
        torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vae.decode(z), theirs.decode(z).sample, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_our_weights_give_the_same_numbers_in_diffusers(awake, changes):
    constructor, vae, theirs = _pair(awake, **changes)
    theirs.load_state_dict(to_diffusers(vae, constructor))
    _assert_equal(vae, theirs, constructor["image_shape"])


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_diffusers_weights_give_the_same_numbers_here(awake, changes):
    constructor, vae, theirs = _pair(awake, **changes)
    from_diffusers(vae, constructor, awake(theirs).state_dict())
    _assert_equal(vae, theirs, constructor["image_shape"])


def test_there_and_back_every_bit_is_the_same(awake):
    constructor, vae, _ = _pair(awake, attention_levels=[1])
    other = build_autoencoder("vae", **constructor)
    from_diffusers(other, constructor, to_diffusers(vae, constructor))
    for name, value in vae.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_a_folder_that_diffusers_saved_is_read_and_one_that_we_wrote_it_reads(awake, tmp_path):
    constructor, vae, theirs = _pair(awake)
    awake(theirs).save_pretrained(tmp_path / "theirs")
    digest = load_pretrained(vae, constructor, tmp_path / "theirs")
    assert len(digest) == 64
    _assert_equal(vae, theirs, constructor["image_shape"])
    write_diffusers_folder(tmp_path / "ours", diffusers_config(constructor), to_diffusers(awake(vae), constructor))
    _assert_equal(
        vae, AutoencoderKL.from_pretrained(tmp_path / "ours", low_cpu_mem_usage=False), constructor["image_shape"]
    )


def test_attention_under_its_older_names_is_read_too(awake):
    constructor, vae, theirs = _pair(awake)
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = awake(theirs).state_dict()
    for new, old in older.items():
        tensors = {
            name.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): value for name, value in tensors.items()
        }
    assert any(".query." in name for name in tensors)
    from_diffusers(vae, constructor, tensors)
    _assert_equal(vae, theirs, constructor["image_shape"])


@pytest.fixture
def saved(awake, tmp_path):
    """Constructor, our network and the folder of a model that diffusers saved."""
    constructor, vae, theirs = _pair(awake)
    theirs.save_pretrained(tmp_path)
    return constructor, vae, tmp_path


@pytest.mark.parametrize(
    ("changes", "hints"),
    [
        (
            {"encoder_channels": [32, 32, 64], "decoder_channels": [32, 32, 64]},
            ["block_out_channels [32, 64, 64]", "autoencoder.encoder_channels"],
        ),
        (
            {"encoder_blocks": [2, 2, 2], "decoder_blocks": [3, 3, 3]},
            ["layers_per_block 1", "autoencoder.encoder_blocks"],
        ),
        ({"latent_channels": 8}, ["latent_channels 4", "autoencoder.latent_channels"]),
        ({"groups": 8}, ["norm_num_groups 32", "autoencoder.groups"]),
        ({"attention_levels": [1]}, ["down_block_types", "autoencoder.attention_levels"]),
        ({"middle_attention": False}, ["mid_block_add_attention True", "autoencoder.middle_attention"]),
        ({"image_shape": [1, 16, 24]}, ["in_channels 3", "data.channels"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_folder_of_another_architecture_is_refused_in_one_line_with_the_setting(saved, changes, hints):
    _, _, folder = saved
    constructor = {**BASE, **changes}
    with pytest.raises(UserError) as caught:
        load_pretrained(build_autoencoder("vae", **constructor), constructor, folder)
    assert "\n" not in str(caught.value)
    for hint in (*hints, str(folder), "autoencoder.init_from"):
        assert hint in str(caught.value)


def test_a_model_of_another_class_or_without_quant_convolutions_is_refused(saved):
    constructor, vae, folder = saved
    config = json.loads((folder / "config.json").read_text())
    for entry, value in {"_class_name": "VQModel", "act_fn": "relu", "use_quant_conv": False}.items():
        (folder / "config.json").write_text(json.dumps({**config, entry: value}))
        with pytest.raises(UserError, match=f"{entry} {value}"):
            load_pretrained(vae, constructor, folder)


def test_a_config_from_before_an_entry_existed_has_the_only_value_of_that_time(saved):
    constructor, vae, folder = saved
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({key: config[key] for key in config.keys() - {"mid_block_add_attention", "use_quant_conv"}})
    )
    assert load_pretrained(vae, constructor, folder)


def _missing(tensors):
    del tensors["encoder.conv_in.weight"]


def _left_over(tensors):
    tensors["encoder.conv_extra.weight"] = torch.zeros(1)


def _of_another_size(tensors):
    tensors["decoder.mid_block.attentions.0.to_q.weight"] = torch.zeros(64, 32)


@pytest.mark.parametrize("damage", [_missing, _left_over, _of_another_size])
def test_weights_that_do_not_fit_are_refused_by_name_and_nothing_is_copied(saved, damage):
    constructor, vae, folder = saved
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    path = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    damage(tensors)
    save_file(tensors, path)
    with pytest.raises(UserError, match="do not fit"):
        load_pretrained(vae, constructor, folder)
    assert all(torch.equal(before[name], value) for name, value in vae.state_dict().items())


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.safetensors", "config.json"])
def test_a_folder_with_a_damaged_file_or_without_it_is_refused_by_name(saved, name):
    constructor, vae, folder = saved
    (folder / name).write_bytes(b"{")
    with pytest.raises(UserError, match="damaged"):
        load_pretrained(vae, constructor, folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        load_pretrained(vae, constructor, folder)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("network", "conv"),
        ("latent_dim", 8),
        ("attention_heads", 2),
        ("causal_attention", True),
        ("decoder_blocks", [1, 1, 1]),
        ("encoder_blocks", [1, 2, 1]),
        ("decoder_channels", [32, 32, 64]),
    ],
)
def test_a_network_that_diffusers_does_not_have_is_refused_by_its_setting(setting, value):
    with pytest.raises(UserError, match=rf"autoencoder\.{setting} \(.*\) must be "):
        diffusers_config({**BASE, setting: value})
