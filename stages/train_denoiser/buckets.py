"""A loss by time: where along the path a denoiser is good."""

from torch import Tensor


def bucket_means(values: Tensor, t: Tensor, buckets: int) -> list[float | None]:
    """Mean of ``values`` (N,) within each of ``buckets`` equal slices of t (N,) in [0, 1]; None for a slice that no t falls into."""
    index = (t * buckets).long().clamp(max=buckets - 1)  # (N,)
    sums = values.new_zeros(buckets).index_add_(0, index, values)
    counts = values.new_zeros(buckets).index_add_(0, index, values.new_ones(len(values)))
    return [total / count if count else None for total, count in zip(sums.tolist(), counts.tolist(), strict=True)]
