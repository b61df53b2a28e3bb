import torch

from latentline.feature_extractors.classifier import ConvClassifier
from latentline.feature_extractors.training import features
from support.several import several


def test_processes_that_share_the_images_have_the_features_that_one_computes():
    network = ConvClassifier((1, 8, 8), outputs=3, channels=4, features=5, dropout=0.5)
    images = torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8)
    cpu = torch.device("cpu")
    expected = features(network, images, cpu)
    for found in several(3, lambda ranks: features(network, images, cpu, ranks)):
        torch.testing.assert_close(found, expected)
