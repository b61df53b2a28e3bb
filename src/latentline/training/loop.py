"""One training loop for every network."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from latentline.core.errors import UserError
from latentline.core.interrupt import InterruptedRunError, deferred_interrupts
from latentline.runtime.parallel import ALONE, Ranks, noticing_loss
from latentline.runtime.resume import ResumeFile
from latentline.runtime.sharding import joined
from latentline.runtime.trackers import Trackers
from latentline.training.ema import Ema
from latentline.training.schedule import stable_steps, warmup_cosine, warmup_milestones, warmup_stable_decay
from latentline.training.shown import Shown
from latentline.training.state import Player, RunState

Part = tuple[float, Tensor, dict[str, Tensor]]
"""Of a step's batch, the whole one: its share of the rows, the mean loss over them, and that loss's terms for the log."""
Loss = Callable[[int], Iterable[Part]]
"""Step (counted from 0) -> this process's parts of its batch, often a single one; each is done with before the next is asked for."""

log = logging.getLogger(__name__)


def parts(count: int, accumulate: int, ranks: Ranks = ALONE) -> Iterator[tuple[float, slice]]:
    """Cut a batch of ``count`` rows into parts, as equal as can be and none empty: (share of all rows, rows) of each that is this process's.

    There are ``accumulate`` parts or, so that each process has as many, a few more. One that has fewer rows than parts takes the first row
    again, with a share of 0: it takes part in whatever the processes tell each other, and changes nothing.
    """
    own = ranks.slice_of(count)
    rows = own.stop - own.start
    wanted = min(-(-accumulate // ranks.count), -(-count // ranks.count))
    pieces = min(wanted, rows)
    for start, stop in pairwise(own.start + rows * piece // max(pieces, 1) for piece in range(pieces + 1)):
        yield (stop - start) / count, slice(start, stop)
    for _ in range(wanted - pieces):
        yield 0.0, slice(0, 1)


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) and its schedule; fields as in params/optimizer.py."""

    lr: float
    weight_decay: float
    warmup_steps: int
    decay_fraction: float
    clip_norm: float
    schedule: str = "warmup_stable_decay"
    milestones: Sequence[int] = ()
    gamma: float = 0.2
    betas: tuple[float, float] = (0.9, 0.99)

    def rate(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        """The learning rate at ``step``, counted from 0."""
        if self.schedule == "warmup_stable_decay":
            return self.lr * warmup_stable_decay(step, total_steps, self.warmup_steps, self.decay_fraction)
        if self.schedule == "cosine":
            return self.lr * warmup_cosine(step, total_steps, self.warmup_steps)
        if self.schedule == "milestones":
            return self.lr * warmup_milestones(step, steps_per_epoch, self.warmup_steps, self.milestones, self.gamma)
        raise ValueError(f"unknown schedule {self.schedule!r}")

    def shared_steps(self, total_steps: int) -> int:
        """How many of the first steps do not depend on ``total_steps``: a longer run begins with the same."""
        if self.schedule == "warmup_stable_decay":
            return stable_steps(total_steps, self.decay_fraction)
        return total_steps if self.schedule == "milestones" else 0


@dataclass(frozen=True)
class Rival:
    """A second network that trains against the first: from ``first_step`` on it steps after each of the first one's steps."""

    network: nn.Module
    loss: Loss
    """As the first network's; it may use what that computed in the same step."""
    optimizer: Optimizer
    first_step: int
    section: str
    """Of params.yaml; holds ``lr``."""


@dataclass(frozen=True)
class Saving:
    """Where and how often the running state is saved, and who else is told of each epoch."""

    file: ResumeFile
    every_seconds: float
    trackers: Trackers = field(default_factory=Trackers)
    for_longer: bool = False
    """Whether a run of more epochs may continue from this one: it may where the key leaves out ``epochs``, and nothing else counts them."""


class _Wishes(NamedTuple):
    """What is to happen after a step, since some process wants it."""

    stop: bool
    save: bool


def fit(
    model: nn.Module,
    loss: Loss,
    *,
    epochs: int,
    steps_per_epoch: int,
    optimizer: Optimizer,
    saving: Saving,
    averages: Sequence[Ema] = (),
    rival: Rival | None = None,
    on_epoch: Callable[[nn.Module, int], dict[str, float]] = lambda model, epoch: {},
    ranks: Ranks = ALONE,
    section: str,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train ``model`` in place.

    Several processes call this alike, and end with the same; the first alone reads and writes the state, and calls ``on_epoch``. Where they
    divide the weights, ``model`` stays divided: what is returned, and the averages, are whole.

    Args:
        model: the network, on its device.
        loss: step (counted from 0) -> (share, loss, terms for the log) of each part of its batch; a function of the step and of
            ``model`` alone, so that a restart at any step repeats nothing and skips nothing. Gradients and terms are the means over
            all rows, as if the batch were whole, whoever computed which.
        epochs: passes.
        steps_per_epoch: steps of one pass.
        optimizer: learning rate and the like.
        saving: where the state goes every so often, and when the process is asked to stop.
        averages: averaged copies of ``model``, as they are before its first step; they follow it, in place too.
        rival: what trains against ``model``, in place too.
        on_epoch: (the first average, else ``model``, epoch counted from 1) -> more values for the epoch's row; may draw pictures. Names with
            an ``@`` are details, which the log and the progress bar leave out.
        ranks: the processes that share the work.
        section: of params.yaml, for error messages.

    Returns:
        The first average, else ``model``, and one row per epoch.

    Raises:
        UserError: loss or gradient of the model or of its rival became infinite or NaN.
        InterruptedRunError: SIGINT or SIGTERM came, to whichever process; the state is saved.
        LostRankError: another process has ended.
    """
    total_steps = epochs * steps_per_epoch
    shown = Shown(model, averages, ranks)
    state = RunState(
        _player(model, optimizer, total_steps, steps_per_epoch),
        averages,
        None if rival is None else _player(rival.network, rival.optimizer, total_steps, steps_per_epoch),
    )
    shared_steps = optimizer.shared_steps(total_steps) if saving.for_longer else 0
    with noticing_loss(ranks):
        _resume(state, optimizer, saving, total_steps, shared_steps, ranks)
    last_save = time.monotonic()

    def wishes() -> _Wishes:
        return _Wishes(stop_wanted(), ranks.is_first and time.monotonic() - last_save > saving.every_seconds)

    progress = tqdm(total=total_steps, initial=state.step, desc=section, disable=None if ranks.is_first else True, mininterval=1)
    with (
        saving.trackers if ranks.is_first else Trackers() as trackers,
        deferred_interrupts() as stop_wanted,
        progress as bar,
        noticing_loss(ranks),
    ):
        while state.step < total_steps:
            stop, due = _step(state, loss, optimizer, rival, section, ranks, wishes)
            bar.update()
            if state.step % steps_per_epoch == 0:
                _finish_epoch(state, shown, steps_per_epoch, on_epoch, ranks)
                bar.set_postfix(_in_short(state.history[-1]))
                trackers.log(state.history[-1])
                stop = ranks.any(stop or stop_wanted())
            if state.step == shared_steps:
                _save(state, saving.file.keep, total_steps, ranks)
            if stop or due:
                _save(state, saving.file.save, total_steps, ranks)
                last_save = time.monotonic()
            if stop:
                ranks.wait()  # for the first, which saves
                raise InterruptedRunError
        return shown.to_all(), state.history


def _resume(state: RunState, optimizer: Optimizer, saving: Saving, total_steps: int, shared_steps: int, ranks: Ranks) -> None:
    """Go to where an earlier run came, all processes alike, or stay where the first begins."""

    def usable(meta: dict[str, Any]) -> bool:
        """Whether this run passes through that state: it was saved on the way to the same end, or before the way depends on the end."""
        others = optimizer.shared_steps(meta["total_steps"])
        return meta["total_steps"] == total_steps or bool(meta["step"] <= min(shared_steps, others))

    if saved := saving.file.load(usable) if ranks.is_first else None:
        log.info("resumed %s at step %d", saving.file.stage, saved[1]["step"])
    if saved is None and ranks.count > 1 and not ranks.sharded:
        saved = state.save(total_steps)  # copies that began with other last digits, on other processors, would go apart; parts of one cannot
    if ranks.tell(saved is not None):
        state.restore(*ranks.spread(*(saved or ({}, {}))))


def _save(state: RunState, write: Callable[[dict[str, Tensor], dict[str, Any]], None], total_steps: int, ranks: Ranks) -> None:
    """Of the processes, each of which may have a part of the state, the first writes it."""
    saved = state.save(total_steps)
    if ranks.is_first:
        write(*saved)


def _player(network: nn.Module, optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> Player:
    adamw = torch.optim.AdamW(network.parameters(), lr=optimizer.lr, betas=optimizer.betas, weight_decay=optimizer.weight_decay, fused=True)
    return Player(network, adamw, partial(optimizer.rate, total_steps=total_steps, steps_per_epoch=steps_per_epoch))


def _step(
    state: RunState, loss: Loss, optimizer: Optimizer, rival: Rival | None, section: str, ranks: Ranks, wishes: Callable[[], _Wishes]
) -> _Wishes:
    """One step of the model, then one of its rival; what is to happen after it, on which all processes agree."""
    remedy = f"lower {section}.optimizer.lr or raise {section}.optimizer.warmup_steps"
    terms, wanted = _descend(state.model, loss, state.step, optimizer.clip_norm, section, remedy, ranks, wishes)
    if rival and state.rival and state.step >= rival.first_step:
        against = rival.optimizer.clip_norm, rival.section, f"lower {rival.section}.lr"
        terms |= _descend(state.rival, rival.loss, state.step, *against, ranks, wishes)[0]
    for average in state.averages:
        average.update(state.step)
    state.log(terms)
    state.step += 1
    return wanted


def _descend(
    player: Player, loss: Loss, step: int, clip_norm: float, section: str, remedy: str, ranks: Ranks, wishes: Callable[[], _Wishes]
) -> tuple[dict[str, float], _Wishes]:
    """One optimizer step of ``player``; the loss's terms, and what any process wants."""
    lr = player.rate(step)
    player.network.train()
    value, terms = _accumulate(loss(step))
    wanted = wishes()
    if ranks.count > 1:
        value, terms, wanted = _add_up(player.network, value, terms, wanted, ranks)
    norm = joined(nn.utils.clip_grad_norm_(player.network.parameters(), clip_norm)).item()
    if not math.isfinite(value + norm):
        raise UserError(
            f"{section}: loss {value:.3g} and gradient norm {norm:.3g} at step {step} with learning rate {lr:.3g}; expected finite numbers; {remedy}"
        )
    for group in player.optimizer.param_groups:
        group["lr"] = lr
    player.optimizer.step()
    player.optimizer.zero_grad(set_to_none=True)
    return terms, wanted


def _accumulate(batch: Iterable[Part]) -> tuple[float, dict[str, float]]:
    """Leave the batch's gradient in the parameters; its loss and terms."""
    value, terms = 0.0, dict[str, float]()
    for share, part_value, part_terms in batch:
        (share * part_value).backward()
        value += share * part_value.item()
        for name, term in part_terms.items():
            terms[name] = terms.get(name, 0.0) + share * term.item()
    return value, terms


def _add_up(network: nn.Module, value: float, terms: dict[str, float], wanted: _Wishes, ranks: Ranks) -> tuple[float, dict[str, float], _Wishes]:
    """Gradients, loss and terms of the whole batch from those of each process's share, and what any wants: in one message.

    Gradients that are divided among the processes are summed already.
    """
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    numbers = torch.tensor([value, *wanted, *terms.values()], dtype=gradients[0].dtype, device=gradients[0].device)
    ranks.add([numbers] if ranks.sharded else [*gradients, numbers])
    value, stops, saves, *sums = numbers.tolist()
    return value, dict(zip(terms, sums, strict=True)), _Wishes(stops > 0, saves > 0)


def _finish_epoch(state: RunState, shown: Shown, steps: int, on_epoch: Callable[[nn.Module, int], dict[str, float]], ranks: Ranks) -> None:
    """Close the epoch's row: means of the logged terms, and what ``on_epoch`` adds."""
    epoch = state.step // steps
    row: dict[str, Any] = {"epoch": epoch, **state.close_epoch()}
    with shown.to_first() as network, torch.no_grad():
        row |= ranks.tell(on_epoch(network, epoch) if ranks.is_first else None)
    state.history.append(row)
    log.info("%s", ", ".join(f"{name} {value:.5g}" for name, value in _in_short(row).items()))


def _in_short(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if "@" not in name}
