"""Extract features: uint8 images, in memory or on disk, to feature vectors on the CPU."""

import torch
from torch import Tensor

from latentline.core.progress import with_progress
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
        progress: whether to show it: a bar on a terminal, elsewhere a line in the log each minute.
    """
    network.eval()
    own = ranks.slice_of(len(images))
    firsts = range(own.start, own.stop, BATCH)
    starts = with_progress(firsts, len(firsts), "batches for the features", shown=progress and ranks.is_main)
    batches = (images[start : min(start + BATCH, own.stop)] for start in starts)
    features = torch.cat([network.features(to_unit_range(batch.to(device))).cpu() for batch in batches])
    return ranks.all_gather(features, len(images))
