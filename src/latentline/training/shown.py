"""The network that others see while a training goes on, and after it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from latentline.runtime.parallel import Ranks
from latentline.runtime.sharding import shard
from latentline.training.ema import Ema


class Shown:
    """The first average, else the network that trains.

    Where processes divide the weights, so they do from here on, and what is shown is a whole copy that has its weights only for as long as
    it is looked at: without the copy no process could, and with it all the time dividing would save less.

    Args:
        model: the network that trains; to be divided in place.
        averages: of it; they are divided too.
        ranks: the processes.
    """

    def __init__(self, model: nn.Module, averages: Sequence[Ema], ranks: Ranks) -> None:
        self._ranks = ranks
        self._latest = Ema(model, decay=0.0) if ranks.sharded and not averages else None
        self._divided = [self._latest] if self._latest else list(averages) if ranks.sharded else []
        self._network = self._divided[0].model if self._divided else averages[0].model if averages else model
        if ranks.sharded:
            shard(model, ranks)
            for copy in self._divided:
                copy.shard(model)

    @contextmanager
    def to_first(self) -> Iterator[nn.Module]:
        """The network, in evaluation mode, for the first process to look at within the block; to be called by all."""
        self._join(self._divided[:1], keep=self._ranks.is_first)
        yield self._network.eval()
        for copy in self._divided[:1]:
            copy.release()

    def to_all(self) -> nn.Module:
        """The network, in evaluation mode, whole in every process as all averages are now; the training is over."""
        self._join(self._divided, keep=True)
        return self._network.eval()

    def _join(self, copies: Sequence[Ema], *, keep: bool) -> None:
        if self._latest:
            self._latest.update(0)
        for copy in copies:
            copy.join(keep=keep)
