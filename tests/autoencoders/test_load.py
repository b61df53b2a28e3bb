"""Encoding and decoding of many images: the batch size changes nothing, and each image has its own default noise."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from latentline.autoencoders import load
from latentline.autoencoders.build import build_autoencoder
from latentline.autoencoders.load import decode_images, encode_images, inference_batch, noise_for_index
from latentline.autoencoders.vae import VAE
from latentline.core.seeds import generator
from latentline.core.shards import read_rows, write_rows
from latentline.data.store import to_uint8, to_unit_range
from support.small_diffae import small_diffae

CPU = torch.device("cpu")


@pytest.fixture
def vae(awake) -> VAE:
    sizes = {"encoder_channels": [8], "encoder_blocks": [1], "decoder_channels": [8], "decoder_blocks": [1]}
    vae = awake(build_autoencoder("vae", image_shape=[1, 8, 8], kl_weight=0.1, latent_channels=2, **sizes))
    assert isinstance(vae, VAE)
    return vae


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8)


@pytest.fixture
def three_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr(load, "_BATCH", 3)


def test_encoding_in_batches_gives_the_latents_of_all_images_without_gradients(vae, images, three_at_a_time):
    latents = encode_images(vae, images, CPU)
    assert latents.shape == (7, 2, 4, 4)
    assert latents.dtype == torch.float32
    assert not latents.requires_grad
    torch.testing.assert_close(latents, vae.encode(to_unit_range(images)), atol=1e-5, rtol=1e-5)


def test_images_on_disk_are_encoded_like_images_in_memory(vae, images, tmp_path: Path, three_at_a_time):
    write_rows(tmp_path, "images", [{"images": images}], {})
    stored = read_rows(sorted(tmp_path.glob("*.safetensors")), "images", "download")[0]
    assert torch.equal(encode_images(vae, stored, CPU), encode_images(vae, images, CPU))


def test_a_generator_samples_the_posterior_batch_by_batch(vae, images, three_at_a_time):
    draw = generator(0, "draw")
    expected = torch.cat([vae.encode(to_unit_range(batch), draw) for batch in images.split(3)])
    assert torch.equal(encode_images(vae, images, CPU, generator(0, "draw")), expected)
    assert not torch.allclose(expected, encode_images(vae, images, CPU))


def test_decoding_in_batches_gives_uint8_images(vae, images, three_at_a_time):
    raw = encode_images(vae, images, CPU)
    decoded = decode_images(vae, raw, CPU, (1, 8, 8))
    assert decoded.dtype == torch.uint8
    difference = decoded.int() - to_uint8(vae.decode(raw)).int()
    assert difference.abs().max() <= 1  # rounding


def test_each_image_has_the_default_noise_of_its_index_whatever_the_batch(awake, three_at_a_time):
    autoencoder, raw = awake(small_diffae(3)), torch.randn(1, 4).expand(7, 4)
    noise = noise_for_index((1, 8, 8), torch.arange(7))
    assert len(noise.unique(dim=0)) == 7
    decoded = decode_images(autoencoder, raw, CPU, (1, 8, 8))
    assert torch.equal(decoded, decode_images(autoencoder, raw, CPU, (1, 8, 8), noise))
    assert torch.equal(decoded[3:6], decode_images(autoencoder, raw[3:6], CPU, (1, 8, 8), first=3))


@pytest.mark.parametrize(("side", "batch"), [(28, 500), (64, 128), (512, 2), (2048, 1)])
def test_large_images_go_through_in_smaller_batches(side, batch):
    assert inference_batch((3, side, side)) == batch
