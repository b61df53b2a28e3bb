"""The network that is validated during a training and returned after it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from latentline.runtime.parallel import Ranks
from latentline.runtime.sharding import shard
from latentline.training.ema import Ema


class EvalModel:
    """The first average, else the network that trains.

    Under FSDP this shards the network and the averages. Evaluation then uses a whole copy, which has its weights only
    while it is used: without the copy no rank could evaluate, and holding its weights all the time would cost what
    sharding saves.

    Args:
        model: the network that trains; under FSDP it is sharded in place.
        averages: averaged copies of ``model``; under FSDP they are sharded too.
        ranks: the processes that share the training.
        param_dtype: type in which sharded weights are gathered and compute; None = their own.
    """

    def __init__(
        self, model: nn.Module, averages: Sequence[Ema], ranks: Ranks, param_dtype: torch.dtype | None = None
    ) -> None:
        self._ranks = ranks
        self._latest = Ema(model, decay=0.0) if ranks.sharded and not averages else None
        self._sharded = [self._latest] if self._latest else list(averages) if ranks.sharded else []
        self._network = self._sharded[0].model if self._sharded else averages[0].model if averages else model
        if ranks.sharded:
            shard(model, ranks, param_dtype)
            for copy in self._sharded:
                copy.shard(model)

    @contextmanager
    def on_rank0(self) -> Iterator[nn.Module]:
        """Yield the network in evaluation mode, for rank 0 to use within the block. All ranks must call this."""
        self._gather(self._sharded[:1], keep=self._ranks.is_main)
        yield self._network.eval()
        for copy in self._sharded[:1]:
            copy.release()

    def gathered(self) -> nn.Module:
        """Return the network in evaluation mode, and gather it and all averages on every rank, after training."""
        self._gather(self._sharded, keep=True)
        return self._network.eval()

    def _gather(self, copies: Sequence[Ema], *, keep: bool) -> None:
        if self._latest:
            self._latest.update(0)
        for copy in copies:
            copy.gather(keep=keep)
