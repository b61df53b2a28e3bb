"""Inception gives the features and the FID of torch-fidelity, with weights drawn here; the published ones are large."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch_fidelity import feature_extractor_inceptionv3 as published
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.data.store import StoreCard, to_unit_range
from latentline.feature_extractors.inception import InceptionV3, _resized
from latentline.runtime.packaged_weights import INCEPTION_SHA256, INCEPTION_URL
from stages.evaluate.distances import frechet_distance
from stages.train_feature_extractor.params import FeatureExtractorParams
from stages.train_feature_extractor.train import build

pytestmark = pytest.mark.usefixtures("machine")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    """The module of torch-fidelity with random weights, and statistics of batch normalisation that matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "load_state_dict_from_url", lambda url, **options: {})
        patch.setattr(published.FeatureExtractorInceptionV3, "load_state_dict", lambda network, weights: None)
        network = published.FeatureExtractorInceptionV3("reference", ["2048"])
    draw = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith(("bn.weight", "running_var")):
            tensor.uniform_(0.5, 1.5, generator=draw)
        elif name.endswith(("bn.bias", "running_mean")):
            tensor.normal_(0, 0.1, generator=draw)
    return network


def _images(count: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8)


def test_features_are_those_of_torch_fidelity(reference):
    network = InceptionV3().eval()
    network.load_published(reference.state_dict())
    images = _images(2, 3, 28, 33)
    images[1] = images[1, :1]  # grey
    (expected,) = reference(images)
    found = network.features(to_unit_range(images))
    assert found.shape == (2, 2048)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    grey = network.features(to_unit_range(images[1:, :1]))
    torch.testing.assert_close(grey, expected[1:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (299, 299), (640, 427)])
def test_images_are_resized_as_tensorflow_1_does(shape):
    x = _images(1, 3, *shape).float()
    expected = interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False)
    assert torch.equal(_resized(x, 299), expected)


def test_the_distance_is_that_of_torch_fidelity():
    a, b = torch.randn(400, 64).double(), 1.5 * torch.rand(300, 64).double()
    expected = fid_statistics_to_metric(*map(fid_features_to_statistics, (a, b)), verbose=False)[KEY_METRIC_FID]
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def _params(path: Path, sha256: str) -> FeatureExtractorParams:
    return FeatureExtractorParams(name="inception", path=str(path), sha256=sha256)


def _build(params: FeatureExtractorParams) -> torch.nn.Module:
    card = StoreCard((), (1, 8, 8), horizontal_flip=False, counts={}, sha256={})
    return build(params, card, torch.zeros(4, 0), 0, CPU).network


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_the_weights_are_those_of_the_file(reference, workplace, name):
    path, save = workplace / name, torch.save if name.endswith("pth") else save_file
    save(reference.state_dict(), path)
    network = _build(_params(path, sha256_file(path)))
    assert torch.equal(network.network.Conv2d_1a_3x3.conv.weight, reference.Conv2d_1a_3x3.conv.weight)
    assert network.head.weight.shape == (0, 2048)


def test_weights_that_are_missing_or_others_are_refused_in_one_line(reference, workplace):
    path = workplace / "weights.pth"
    with pytest.raises(UserError, match=rf"^feature_extractor\.path .*, but is none; .*{re.escape(INCEPTION_URL)}$"):
        _build(_params(path, INCEPTION_SHA256))
    torch.save({"conv": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"^feature_extractor\.sha256 \(6726825d.*download it: curl"):
        _build(_params(path, INCEPTION_SHA256))
    with pytest.raises(UserError, match=r"^feature_extractor\.path must hold .*; correct the path$"):
        _build(_params(path, sha256_file(path)))
