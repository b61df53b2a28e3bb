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
def judge() -> EfficientNetLite0:
    network = EfficientNetLite0()
    network.load_published(read_packaged_weights(EFFICIENTNET_LITE0, "feature_extractor.name: efficientnet_lite0"))
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def photographs() -> tuple[torch.Tensor, torch.Tensor]:
    """A Chinese temple and a flower: (1, 3, 427, 640) each, in [-1, 1]."""
    return tuple(torch.tensor(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in load_sample_images().images)


def test_photographs_are_seen_for_what_they_show(judge, photographs):
    temple, flower = (judge(photograph)[0] for photograph in photographs)
    assert set(temple.topk(5).indices.tolist()) & {CASTLE, PALACE}
    assert len(set(temple.topk(5).indices.tolist()) & TEMPLE_LIKE) >= 3
    assert flower.argmax() == DAISY


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 33), (3, 300, 240), (1, 1, 1)])
def test_images_of_any_size_give_1280_features_of_which_the_logits_follow(judge, shape):
    x = torch.rand(2, *shape) * 2 - 1
    features = judge.features(x)
    assert features.shape == (2, 1280)
    assert (features >= 0).all() and features.isfinite().all()
    torch.testing.assert_close(judge.backbone._fc(features), judge(x))


def test_an_image_of_the_networks_own_size_is_only_normalised(judge, photographs):
    pixels = torch.randint(0, 256, (1, 3, 224, 224)).float()
    torch.testing.assert_close(judge(pixels / 127.5 - 1), judge.backbone((pixels - 127) / 128), atol=1e-4, rtol=1e-3)


def test_grey_is_colour_with_equal_channels(judge):
    grey = torch.rand(2, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(judge.features(grey), judge.features(grey.repeat(1, 3, 1, 1)))


def test_each_image_is_seen_alone_and_the_same_every_time(judge, photographs):
    x = torch.cat([photograph[..., :200, :200] for photograph in photographs])
    together = judge.features(x)
    assert torch.equal(judge.features(x), together)
    torch.testing.assert_close(judge.features(x[1:])[0], together[1], atol=1e-4, rtol=1e-3)


def test_more_noise_and_more_blur_are_farther_away(judge, photographs):
    temple = photographs[0]
    noise = torch.randn_like(temple)
    noisy = [judge.features((temple + level * noise).clamp(-1, 1)) for level in (0.0, 0.1, 0.4)]
    blurred = [judge.features(torch.nn.functional.avg_pool2d(temple, size, 1, size // 2)) for size in (1, 3, 15)]
    for harmed in (noisy, blurred):
        distances = [float((features - harmed[0]).norm()) for features in harmed]
        assert distances == sorted(distances)


def test_without_its_architecture_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(
        UserError,
        match=r"^feature_extractor\.name: efficientnet_lite0 needs the package efficientnet-lite-pytorch; .*$",
    ):
        EfficientNetLite0()
