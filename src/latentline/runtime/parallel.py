"""Several processes that share one run, started by Lightning Fabric: their ranks and collectives.

Each process holds the whole network, or a shard of its weights while it trains (``runtime/sharding.py``), and computes
its own slice of each batch. Sums over all ranks are what one process would have computed. Rank 0 alone writes files.
Messages are tensors and JSON, never a pickle.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.interrupt import LostRankError
from latentline.runtime.compute import device_count
from latentline.runtime.heartbeat import Heartbeat, kill_at_exit

# Rank 0 may validate for so long while the others wait; a process that has ended is noticed at once.
_TIMEOUT = timedelta(hours=1)
_MAX_CHARS = 160  # of torch's own error messages
_SOURCE_LINE = re.compile(r"^\[\S+\] ")  # torch's own, at the beginning of its connection errors
# Needed where neither torchrun nor SLURM assigns the ranks.
_RENDEZVOUS_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, and the number of this one.

    In a run of one process every method returns its input at once.
    All methods but :meth:`slice_of` must be called by every rank, in the same order, with tensors of the same shapes
    and types.

    Raises:
        LostRankError: another process has ended; from every method that communicates.
    """

    number: int = 0
    """Rank of this process, from 0."""
    count: int = 1
    """World size: all processes, over all machines."""
    device: torch.device | str = "cpu"
    """Device of the messages: NCCL needs the memory of this rank's GPU."""
    sharded: bool = False
    """Whether trainings shard their weights (FSDP); never with one process."""
    heartbeat: Heartbeat | None = None
    """Watches the other processes where the run has started them."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes, draws and logs."""
        return self.number == 0

    def slice_of(self, total: int) -> slice:
        """Return this rank's slice of ``total`` rows.

        Slices differ by one row at most; some are empty where there are more ranks than rows.
        """
        return self._slice(self.number, total)

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, in place; the same bytes on all ranks.

        One message carries all tensors.
        """
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _lost_rank_errors(self):
            torch.distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view(tensor.shape))

    def begin_all_reduce(self, tensor: Tensor) -> Callable[[], None]:
        """Begin to replace a contiguous tensor by its sum over all ranks, as :meth:`all_reduce`.

        Returns:
            A function that waits until the tensor is replaced; on a GPU its stream waits, not the process.
        """
        if self.count == 1:
            return lambda: None
        with _lost_rank_errors(self):
            work = torch.distributed.all_reduce(tensor, async_op=True)

        def wait() -> None:
            with _lost_rank_errors(self):
                work.wait()

        return wait

    def any_rank(self, flag: bool) -> bool:
        """Return whether ``flag`` is true on any rank."""
        flags = torch.tensor([float(flag)], device=self.device)
        self.all_reduce([flags])
        return flags.item() > 0

    def broadcast_object(self, value: Any) -> Any:
        """Return rank 0's ``value``, which JSON must be able to hold; other ranks may pass anything."""
        if self.count == 1:
            return value
        message = (
            torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
            if self.is_main
            else torch.empty(0, dtype=torch.uint8)
        )
        length = torch.tensor([len(message)], device=self.device)
        self._broadcast(length)
        received = (
            message.to(self.device) if self.is_main else torch.empty(int(length), dtype=torch.uint8, device=self.device)
        )
        self._broadcast(received)
        return json.loads(bytes(received.tolist()))

    def broadcast(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return rank 0's tensors, on the CPU, and its ``meta`` (JSON); other ranks may pass anything."""
        if self.count == 1:
            return tensors, meta
        layouts = {
            name: (list(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for name, tensor in tensors.items()
        }
        layouts, meta = self.broadcast_object([layouts, meta])
        received = {}
        for name, (shape, dtype) in layouts.items():
            own = tensors[name] if self.is_main else torch.empty(shape, dtype=getattr(torch, dtype))
            message = own.detach().to(self.device).contiguous()
            self._broadcast(message)
            received[name] = message.cpu()
        return received, meta

    def all_gather(self, rows: Tensor, total: int) -> Tensor:
        """Return all ``total`` rows (total, ...) on the CPU.

        Each rank passes the rows of its :meth:`slice_of`, which may be none.
        """
        if self.count == 1:
            return rows.cpu()
        gathered = []
        for number in range(self.count):
            part = self._slice(number, total)
            if part.start == part.stop:
                continue
            shape = (part.stop - part.start, *rows.shape[1:])
            message = (
                rows.to(self.device).contiguous()
                if number == self.number
                else torch.empty(shape, dtype=rows.dtype, device=self.device)
            )
            self._broadcast(message, number)
            gathered.append(message.cpu())
        return torch.cat(gathered)

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        self.any_rank(False)

    def exit_non_main(self) -> None:
        """End every process but rank 0, which goes on to write the stage's outs."""
        if self.heartbeat:
            self.heartbeat.stop_watching()
        if not self.is_main:
            raise SystemExit(0)

    def _slice(self, number: int, total: int) -> slice:
        return slice(total * number // self.count, total * (number + 1) // self.count)

    def _broadcast(self, tensor: Tensor, source: int = 0) -> None:
        with _lost_rank_errors(self):
            torch.distributed.broadcast(tensor, source)


SINGLE_PROCESS = Ranks()


def init_distributed(
    device: torch.device, devices: int, nodes: int, strategy: str = "ddp"
) -> tuple[torch.device, Ranks]:
    """Start the other processes of the run, or find those of torchrun or SLURM, and connect with them.

    The other processes run the same script from its beginning and call this too. Nothing may have been written before.

    Args:
        device: device of a run of one process.
        devices: ``compute.devices``, processes on each machine: one per GPU, or any number on the CPU.
        nodes: ``compute.nodes``, machines.
        strategy: ``compute.strategy``; ``fsdp`` shards the weights of trainings.

    Returns:
        This process's own device, and the ranks.

    Raises:
        UserError: settings, devices and environment contradict each other.
    """
    settings = f"compute.devices ({devices}) x compute.nodes ({nodes})"
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if devices * nodes == 1:
        if started > 1:
            raise UserError(
                f"{settings} must be the number of processes that were started ({started}); set both, or start one"
            )
        return device, SINGLE_PROCESS
    _require_devices(device, devices, nodes)
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    logging.getLogger("lightning_fabric.utilities").setLevel(logging.WARNING)  # it reports each step of connecting
    try:
        fabric = Fabric(
            accelerator=device.type, devices=devices, num_nodes=nodes, strategy=DDPStrategy(timeout=_TIMEOUT)
        )
        fabric.launch()
    except ValueError as error:  # torchrun or SLURM started another number of processes
        raise UserError(
            f"{settings} must be the number of processes that were started ({_short(str(error))}); change one of them"
        ) from None
    except torch.distributed.DistError as error:
        raise UserError(
            f"{settings}: every process must reach the first machine ({_short(str(error))}); free the port MASTER_PORT "
            "and check the network, see docs/scaling.md"
        ) from None
    kill_started = kill_at_exit(getattr(fabric.strategy.launcher, "procs", []))
    store = torch.distributed.distributed_c10d._get_default_store()
    heartbeat = Heartbeat(store, fabric.global_rank, fabric.world_size, kill_started)
    ranks = Ranks(fabric.global_rank, fabric.world_size, fabric.device, strategy == "fsdp", heartbeat)
    if ranks.is_main:
        log.info("%d processes share the work%s", ranks.count, " and the weights" if ranks.sharded else "")
    else:
        logging.getLogger().setLevel(logging.ERROR)  # rank 0 logs the rest
    return fabric.device, ranks


def _require_devices(device: torch.device, devices: int, nodes: int) -> None:
    """Raise UserError where a process would have no device, or could not find the others."""
    if (available := device_count(device)) is not None and devices > available:
        raise UserError(
            f"compute.devices ({devices}) must not exceed this machine's devices of type {device.type} ({available}); "
            "lower it, or set compute.device to cpu"
        )
    ranks_assigned = "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_PROCID" in os.environ
    if (
        nodes > 1
        and not ranks_assigned
        and (missing := [name for name in _RENDEZVOUS_VARIABLES if name not in os.environ])
    ):
        raise UserError(
            f"compute.nodes ({nodes}) must come with {', '.join(missing)} in the environment; start the run by "
            f"torchrun or srun, or set {', '.join(_RENDEZVOUS_VARIABLES)}, see docs/scaling.md"
        )


@contextmanager
def reporting_lost_ranks(ranks: Ranks) -> Iterator[None]:
    """Raise torch's errors of a broken connection as LostRankError; all other errors pass.

    For code that communicates by itself.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or _SOURCE_LINE.match(str(error)):
            raise _lost(ranks, error) from None
        raise


@contextmanager
def _lost_rank_errors(ranks: Ranks) -> Iterator[None]:
    """Raise all of torch's errors as LostRankError."""
    try:
        yield
    except RuntimeError as error:
        raise _lost(ranks, error) from None


def _lost(ranks: Ranks, error: RuntimeError) -> LostRankError:
    reason = _short(_SOURCE_LINE.sub("", str(error)).split(". ")[0])
    return LostRankError(f"process {ranks.number} of {ranks.count} has lost another one ({reason})")


def _short(message: str) -> str:
    return " ".join(message.split())[:_MAX_CHARS]
