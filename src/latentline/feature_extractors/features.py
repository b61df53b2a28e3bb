"""Extract features: uint8 images, in memory or on disk, to feature vectors on the CPU."""

import torch
from torch import Tensor
from tqdm import tqdm

from latentline.core.shards import ShardedArray
from latentline.data.store import to_unit_range
from latentline.feature_extractors.build import ExtractorNetwork
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks

BATCH = 500


@torch.no_grad()
def extract_features(
    network: ExtractorNetwork,
    images: Tensor | ShardedArray,
    device: torch.device,
    ranks: Ranks = SINGLE_PROCESS,
    *,
    progress: bool = False,
) -> Tensor:
    """Return the features (N, D) of uint8 images (N, C, H, W), and leave ``network`` in evaluation mode.

    Args:
        network: on ``device``.
        images: in memory, or on disk and then read batch by batch; N > 0.
        device: of the network.
        ranks: the processes that share the images. Each computes a slice, and all return all features.
        progress: whether to show a progress bar on a terminal.
    """
    network.eval()
    own = ranks.slice_of(len(images))
    disable = None if progress and ranks.is_main else True
    starts = tqdm(range(own.start, own.stop, BATCH), desc="features", disable=disable, mininterval=1)
    batches = (images[start : min(start + BATCH, own.stop)] for start in starts)
    features = torch.cat([network.features(to_unit_range(batch.to(device))).cpu() for batch in batches])
    return ranks.all_gather(features, len(images))
