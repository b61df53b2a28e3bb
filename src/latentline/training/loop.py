"""One training loop for every network."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from latentline.common.errors import UserError
from latentline.runtime.interrupt import InterruptedRunError, deferred_interrupts
from latentline.runtime.resume import ResumeFile
from latentline.training.ema import Ema
from latentline.training.schedule import warmup_stable_decay
from latentline.training.state import RunState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) and its schedule; fields as in params/optimizer.py."""

    lr: float
    weight_decay: float
    warmup_steps: int
    decay_fraction: float
    clip_norm: float


@dataclass(frozen=True)
class Saving:
    """Where and how often the running state is saved."""

    file: ResumeFile
    every_seconds: float


def fit(
    model: nn.Module,
    loss: Callable[[int], tuple[Tensor, dict[str, Tensor]]],
    *,
    epochs: int,
    steps_per_epoch: int,
    optimizer: Optimizer,
    saving: Saving,
    ema_decay: float | None = None,
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
        on_epoch: (the weights to be used, epoch counted from 1) -> more values for the epoch's row; may draw pictures.
        section: of params.yaml, for error messages.

    Returns:
        The weights to be used (averaged where ``ema_decay`` is given), and one row per epoch.

    Raises:
        UserError: loss or gradient became infinite or NaN.
        InterruptedRunError: SIGINT or SIGTERM came; the state is saved.
    """
    adamw = torch.optim.AdamW(model.parameters(), lr=optimizer.lr, betas=(0.9, 0.99), weight_decay=optimizer.weight_decay, fused=True)
    state = RunState(model, adamw, None if ema_decay is None else Ema(model, ema_decay))
    if saved := saving.file.load():
        state.restore(*saved)
        log.info("resumed %s at step %d", saving.file.stage, state.step)
    used = state.ema.model if state.ema else model
    total_steps = epochs * steps_per_epoch
    last_save = time.monotonic()
    with deferred_interrupts() as stop_wanted, tqdm(total=total_steps, initial=state.step, desc=section, disable=None, mininterval=1) as bar:
        while state.step < total_steps:
            lr = optimizer.lr * warmup_stable_decay(state.step, total_steps, optimizer.warmup_steps, optimizer.decay_fraction)
            _step(state, loss, lr, optimizer.clip_norm, section)
            bar.update()
            if state.step % steps_per_epoch == 0:
                _finish_epoch(state, used, steps_per_epoch, on_epoch)
                bar.set_postfix(state.history[-1])
            if stop_wanted() or time.monotonic() - last_save > saving.every_seconds:
                saving.file.save(*state.save())
                last_save = time.monotonic()
            if stop_wanted():
                raise InterruptedRunError
    return used.eval(), state.history


def _step(state: RunState, loss: Callable[[int], tuple[Tensor, dict[str, Tensor]]], lr: float, clip_norm: float, section: str) -> None:
    """One optimizer step."""
    state.model.train()
    value, terms = loss(state.step)
    value.backward()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), clip_norm)
    if not math.isfinite(value.item() + norm.item()):
        raise UserError(
            f"{section}: loss {value.item():.3g} and gradient norm {norm.item():.3g} at step {state.step} with learning rate {lr:.3g}; "
            f"expected finite numbers; lower {section}.optimizer.lr or raise {section}.optimizer.warmup_steps"
        )
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema:
        state.ema.update(state.model, state.step)
    state.step += 1
    for name, term in terms.items():
        state.sums[name] = state.sums.get(name, 0.0) + term.item()


def _finish_epoch(state: RunState, used: nn.Module, steps: int, on_epoch: Callable[[nn.Module, int], dict[str, float]]) -> None:
    """Close the epoch's row: means of the logged terms, and what ``on_epoch`` adds."""
    epoch = state.step // steps
    row: dict[str, Any] = {"epoch": epoch, **{name: total / steps for name, total in state.sums.items()}}
    state.sums = {}
    used.eval()
    with torch.no_grad():
        row |= on_epoch(used, epoch)
    state.history.append(row)
    log.info("%s", ", ".join(f"{name} {value:.5g}" for name, value in row.items()))
