"""One training loop for every network."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from latentline.common.errors import UserError
from latentline.runtime.interrupt import InterruptedRunError, deferred_interrupts
from latentline.runtime.resume import ResumeFile
from latentline.runtime.trackers import Trackers
from latentline.training.ema import Ema
from latentline.training.schedule import warmup_stable_decay
from latentline.training.state import Player, RunState

Loss = Callable[[int], tuple[Tensor, dict[str, Tensor]]]
"""Step (counted from 0) -> (loss, terms for the log)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) and its schedule; fields as in params/optimizer.py."""

    lr: float
    weight_decay: float
    warmup_steps: int
    decay_fraction: float
    clip_norm: float
    betas: tuple[float, float] = (0.9, 0.99)


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


def fit(
    model: nn.Module,
    loss: Loss,
    *,
    epochs: int,
    steps_per_epoch: int,
    optimizer: Optimizer,
    saving: Saving,
    ema_decay: float | None = None,
    rival: Rival | None = None,
    on_epoch: Callable[[nn.Module, int], dict[str, float]] = lambda model, epoch: {},
    section: str,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train ``model`` in place.

    Args:
        model: the network, on its device.
        loss: step (counted from 0) -> (loss, terms for the log); a function of the step and of ``model`` alone, so that a
            restart at any step repeats nothing and skips nothing.
        epochs: passes.
        steps_per_epoch: steps of one pass.
        optimizer: learning rate and the like.
        saving: where the state goes every so often, and when the process is asked to stop.
        ema_decay: decay of the averaged weights; None = no average.
        rival: what trains against ``model``, in place too.
        on_epoch: (the weights to be used, epoch counted from 1) -> more values for the epoch's row; may draw pictures.
        section: of params.yaml, for error messages.

    Returns:
        The weights to be used (averaged where ``ema_decay`` is given), and one row per epoch.

    Raises:
        UserError: loss or gradient of the model or of its rival became infinite or NaN.
        InterruptedRunError: SIGINT or SIGTERM came; the state is saved.
    """
    state = RunState(
        _player(model, optimizer),
        None if ema_decay is None else Ema(model, ema_decay),
        None if rival is None else _player(rival.network, rival.optimizer),
    )
    if saved := saving.file.load():
        state.restore(*saved)
        log.info("resumed %s at step %d", saving.file.stage, state.step)
    used = state.ema.model if state.ema else model
    total_steps = epochs * steps_per_epoch
    last_save = time.monotonic()
    progress = tqdm(total=total_steps, initial=state.step, desc=section, disable=None, mininterval=1)
    with saving.trackers as trackers, deferred_interrupts() as stop_wanted, progress as bar:
        while state.step < total_steps:
            _step(state, loss, optimizer, rival, total_steps, section)
            bar.update()
            if state.step % steps_per_epoch == 0:
                _finish_epoch(state, used, steps_per_epoch, on_epoch)
                bar.set_postfix(state.history[-1])
                trackers.log(state.history[-1])
            if stop_wanted() or time.monotonic() - last_save > saving.every_seconds:
                saving.file.save(*state.save())
                last_save = time.monotonic()
            if stop_wanted():
                raise InterruptedRunError
    return used.eval(), state.history


def _player(network: nn.Module, optimizer: Optimizer) -> Player:
    adamw = torch.optim.AdamW(network.parameters(), lr=optimizer.lr, betas=optimizer.betas, weight_decay=optimizer.weight_decay, fused=True)
    return Player(network, adamw)


def _step(state: RunState, loss: Loss, optimizer: Optimizer, rival: Rival | None, total_steps: int, section: str) -> None:
    """One step of the model, then one of its rival."""
    remedy = f"lower {section}.optimizer.lr or raise {section}.optimizer.warmup_steps"
    terms = _descend(state.model, loss, state.step, total_steps, optimizer, section, remedy)
    if rival and state.rival and state.step >= rival.first_step:
        terms |= _descend(state.rival, rival.loss, state.step, total_steps, rival.optimizer, rival.section, f"lower {rival.section}.lr")
    if state.ema:
        state.ema.update(state.model.network, state.step)
    state.log(terms)
    state.step += 1


def _descend(player: Player, loss: Loss, step: int, total_steps: int, optimizer: Optimizer, section: str, remedy: str) -> dict[str, Tensor]:
    """One optimizer step of ``player``; the loss's terms."""
    lr = optimizer.lr * warmup_stable_decay(step, total_steps, optimizer.warmup_steps, optimizer.decay_fraction)
    player.network.train()
    value, terms = loss(step)
    value.backward()
    norm = nn.utils.clip_grad_norm_(player.network.parameters(), optimizer.clip_norm)
    if not math.isfinite(value.item() + norm.item()):
        raise UserError(
            f"{section}: loss {value.item():.3g} and gradient norm {norm.item():.3g} at step {step} with learning rate {lr:.3g}; "
            f"expected finite numbers; {remedy}"
        )
    for group in player.optimizer.param_groups:
        group["lr"] = lr
    player.optimizer.step()
    player.optimizer.zero_grad(set_to_none=True)
    return terms


def _finish_epoch(state: RunState, used: nn.Module, steps: int, on_epoch: Callable[[nn.Module, int], dict[str, float]]) -> None:
    """Close the epoch's row: means of the logged terms, and what ``on_epoch`` adds."""
    epoch = state.step // steps
    row: dict[str, Any] = {"epoch": epoch, **state.close_epoch()}
    used.eval()
    with torch.no_grad():
        row |= on_epoch(used, epoch)
    state.history.append(row)
    log.info("%s", ", ".join(f"{name} {value:.5g}" for name, value in row.items()))
