"""The latent cache of a trained autoencoder: posterior, scaling and export."""

from pathlib import Path

import numpy as np
import torch

from latentline.core.files import sha256_file
from latentline.latents.cache import read_latents


def test_a_cached_sample_of_the_posterior_is_seeded_and_not_its_mean(run):
    cached = []
    for posterior in ("mean", "sample", "sample"):
        run({"posterior": posterior, "dtype": "float32"})
        cached.append(read_latents("train").latents.to_memory())
    assert torch.equal(cached[1], cached[2])
    assert not torch.allclose(cached[0], cached[1], atol=1e-2)


def test_a_fixed_scaling_takes_the_place_of_the_measured_one(run):
    _, _, stats = run({"scaling": 0.5})
    assert torch.equal(stats.normalizer.std, torch.full((2, 1, 1), 2.0))
    assert torch.equal(stats.normalizer.mean, torch.zeros(2, 1, 1))


def _cache_digests() -> dict[str, str]:
    """Digest of each file in encoded_img, without the export."""
    files = [path for path in Path("encoded_img").rglob("*") if path.is_file() and path.parent.name != "export"]
    return {path.as_posix(): sha256_file(path) for path in files}


def test_an_export_lies_beside_the_cache_and_changes_nothing_in_it(run):
    _, _, alone = run(name="identity")
    cache = _cache_digests()
    _, _, stats = run({"export": "npz"}, name="identity")
    assert _cache_digests() == cache
    assert len(cache) == 6  # three splits, statistics, labels, and a note that there are no captions
    assert stats.autoencoder == alone.autoencoder
    exported, latents = np.load("encoded_img/export/test.npz"), read_latents("test")
    assert torch.equal(torch.from_numpy(exported["z0"]), stats.normalizer.standardise(latents.latents.to_memory()))
    assert torch.equal(torch.from_numpy(exported["labels"]), latents.labels.arrays()["labels"])
