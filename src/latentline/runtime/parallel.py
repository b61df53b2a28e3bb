"""Several processes that work on one run, started by Lightning Fabric: who is who, and what they tell each other.

Each holds the whole network (while it trains, perhaps a part of the weights: ``runtime/sharding.py``) and computes its own slice of each
batch; sums over all of them are what one process would have computed. Only the first writes files. What they tell each other is numbers
and JSON, never a pickle.
"""

import atexit
import json
import logging
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.interrupt import LostRankError
from latentline.runtime.compute import devices_there

_PATIENCE = timedelta(hours=1)  # a process may validate for so long while the others wait; one that has ended is noticed at once
_SHOWN = 160  # characters of torch's own words
_PLACE = re.compile(r"^\[\S+\] ")  # in torch's own source, from where an error comes
_NEEDED = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")  # in the environment, where neither torchrun nor SLURM says who is who
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranks:
    """The processes of a run as one of them sees it. Where it is the only one, every method gives back what it was given, at once.

    All methods but :meth:`slice_of` must be called by every process, in the same order, with tensors of the same shapes and types.

    Raises:
        LostRankError: another process has ended; from every method that talks to it.
    """

    number: int = 0
    """This process, from 0."""
    count: int = 1
    """All processes, over all machines."""
    device: torch.device | str = "cpu"
    """Where messages are sent from: NCCL knows only the memory of its GPU."""
    sharded: bool = False
    """Whether each holds only its part of the weights while they train; never where it is the only one."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes, draws and logs."""
        return self.number == 0

    def slice_of(self, total: int) -> slice:
        """This process's part of ``total`` rows, about as long as any other's; empty where there are more processes than rows."""
        return self._slice(self.number, total)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Put into each tensor, in place, its sum over all processes; the same bytes everywhere. One message for all of them."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _talking(self):
            torch.distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view(tensor.shape))

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        flags = torch.tensor([float(flag)], device=self.device)
        self.add([flags])
        return flags.item() > 0

    def tell(self, value: Any) -> Any:
        """What the first process calls it with; ``value`` is what JSON can hold, and of no matter elsewhere."""
        if self.count == 1:
            return value
        said = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8) if self.is_first else torch.empty(0, dtype=torch.uint8)
        length = torch.tensor([len(said)], device=self.device)
        self._broadcast(length)
        heard = said.to(self.device) if self.is_first else torch.empty(int(length), dtype=torch.uint8, device=self.device)
        self._broadcast(heard)
        return json.loads(bytes(heard.tolist()))

    def spread(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The first process's tensors, on the CPU, and its ``meta`` (JSON); what the others call it with is of no matter."""
        if self.count == 1:
            return tensors, meta
        kinds = {name: (list(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for name, tensor in tensors.items()}
        kinds, meta = self.tell([kinds, meta])
        spread = {}
        for name, (shape, dtype) in kinds.items():
            own = tensors[name] if self.is_first else torch.empty(shape, dtype=getattr(torch, dtype))
            sent = own.detach().to(self.device).contiguous()
            self._broadcast(sent)
            spread[name] = sent.cpu()
        return spread, meta

    def join_rows(self, rows: Tensor, total: int) -> Tensor:
        """All ``total`` rows (total, ...) on the CPU, of which each process brings those of its :meth:`slice_of`, of at least one row each."""
        if self.count == 1:
            return rows.cpu()
        joined = []
        for number in range(self.count):
            part = self._slice(number, total)
            shape = (part.stop - part.start, *rows.shape[1:])
            sent = rows.to(self.device).contiguous() if number == self.number else torch.empty(shape, dtype=rows.dtype, device=self.device)
            self._broadcast(sent, number)
            joined.append(sent.cpu())
        return torch.cat(joined)

    def wait(self) -> None:
        """Until all processes have come here."""
        self.any(False)

    def dismiss(self) -> None:
        """End every process but the first, which goes on to write the stage's outs."""
        if not self.is_first:
            raise SystemExit(0)

    def _slice(self, number: int, total: int) -> slice:
        return slice(total * number // self.count, total * (number + 1) // self.count)

    def _broadcast(self, tensor: Tensor, source: int = 0) -> None:
        with _talking(self):
            torch.distributed.broadcast(tensor, source)


ALONE = Ranks()


def join(device: torch.device, devices: int, nodes: int, strategy: str = "ddp") -> tuple[torch.device, Ranks]:
    """Start the other processes of the run, or find those that torchrun or SLURM has started, and connect with them.

    The others run the same script from its beginning, and come here too. Nothing may have been written before.

    Args:
        device: of a process that is alone.
        devices: ``compute.devices``, processes on each machine: one a GPU, or any number on the CPU.
        nodes: ``compute.nodes``, machines.
        strategy: ``compute.strategy``; ``fsdp`` = trainings divide their weights.

    Returns:
        This process's own device, and the processes.

    Raises:
        UserError: knobs, devices and environment do not fit together.
    """
    knobs = f"compute.devices: {devices} and compute.nodes: {nodes}"
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if devices * nodes == 1:
        if started > 1:
            raise UserError(f"{knobs}, but {started} processes were started; expected as many as the two say; set them, or start one")
        return device, ALONE
    _require_devices(device, devices, nodes)
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    logging.getLogger("lightning_fabric.utilities").setLevel(logging.WARNING)  # that connecting has begun, and ended
    try:
        fabric = Fabric(accelerator=device.type, devices=devices, num_nodes=nodes, strategy=DDPStrategy(timeout=_PATIENCE))
        fabric.launch()
    except ValueError as error:  # torchrun's or SLURM's numbers are others
        raise UserError(f"{knobs} do not fit the processes that were started ({' '.join(str(error).split())[:_SHOWN]}); change one") from None
    except torch.distributed.DistError as error:
        raise UserError(
            f"{knobs}, but the processes do not find each other ({' '.join(str(error).split())[:_SHOWN]}); expected a free port and a way to the "
            "first machine; see docs/scaling.md"
        ) from None
    _end_with_this_one(getattr(fabric.strategy.launcher, "procs", []))
    ranks = Ranks(fabric.global_rank, fabric.world_size, fabric.device, sharded=strategy == "fsdp")
    if ranks.is_first:
        log.info("%d processes share the work%s", ranks.count, " and the weights" if ranks.sharded else "")
    else:
        logging.getLogger().setLevel(logging.ERROR)  # the first says the rest
    return fabric.device, ranks


def _require_devices(device: torch.device, devices: int, nodes: int) -> None:
    """Raise UserError where that many processes have nowhere to run, or no way to find each other."""
    if (there := devices_there(device)) is not None and devices > there:
        raise UserError(
            f"compute.devices: {devices}, but this machine has {there} of kind {device.type}; expected at most so many; lower it, or set "
            "compute.device to cpu"
        )
    told = "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_PROCID" in os.environ
    if nodes > 1 and not told and (missing := [name for name in _NEEDED if name not in os.environ]):
        raise UserError(
            f"compute.nodes: {nodes}, but {', '.join(missing)} is not in the environment; expected torchrun, srun, or {', '.join(_NEEDED)} "
            "to say where the first machine is and which this one is; see docs/scaling.md"
        )


def _end_with_this_one(started: list[subprocess.Popen[bytes]]) -> None:
    """However this process ends, short of SIGKILL, those that it started end too; killed ones are noticed by :func:`_talking`."""

    def end() -> None:
        for process in started:
            process.kill()
            process.wait()

    atexit.register(end)


@contextmanager
def noticing_loss(ranks: Ranks) -> Iterator[None]:
    """For what talks to the other processes by itself: torch's errors of a broken connection, and no others, as LostRankError."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or _PLACE.match(str(error)):
            raise _lost(ranks, error) from None
        raise


@contextmanager
def _talking(ranks: Ranks) -> Iterator[None]:
    """Torch's errors of a broken connection as one of ours."""
    try:
        yield
    except RuntimeError as error:
        raise _lost(ranks, error) from None


def _lost(ranks: Ranks, error: RuntimeError) -> LostRankError:
    reason = _PLACE.sub("", str(error)).split(". ")[0]
    return LostRankError(f"process {ranks.number} of {ranks.count} has lost another one ({' '.join(reason.split())[:_SHOWN]})")
