"""The one training loop, for every network."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from latentline.core.interrupt import InterruptedRunError, deferred_interrupts
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks, reporting_lost_ranks
from latentline.runtime.resume import ResumeFile
from latentline.runtime.sharding import full_tensor
from latentline.runtime.trackers import Trackers
from latentline.training.ema import Ema
from latentline.training.eval_model import EvalModel
from latentline.training.micro_batches import Loss
from latentline.training.optimizer import Optimizer
from latentline.training.state import RunState, TrainedModule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiscriminatorTraining:
    """A second network that trains against the first; from ``first_step`` on it steps after each step of the first."""

    network: nn.Module
    loss: Loss
    """Like the first network's loss; it may use what the first network computed in the same step."""
    optimizer: Optimizer
    first_step: int
    section: str
    """Section of params.yaml that holds its ``lr``."""


@dataclass(frozen=True)
class Saving:
    """Where and how often the running state is saved, and which trackers log the epochs."""

    file: ResumeFile
    every_seconds: float
    trackers: Trackers = field(default_factory=Trackers)
    extendable: bool = False
    """Whether a run of more epochs may continue this one; neither the key nor the loss may depend on ``epochs``."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training."""

    section: str
    """Section of params.yaml, for the progress bar and for error messages."""
    epochs: int
    steps_per_epoch: int
    optimizer: Optimizer
    saving: Saving

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def extension_step(self) -> int:
        """Step from which a run of more epochs may continue; 0 = none."""
        return self.optimizer.schedule_invariant_steps(self.total_steps) if self.saving.extendable else 0


class StopSignals(NamedTuple):
    """What follows the step that is under way. Each is set on all ranks as soon as one rank sets it."""

    stop: bool
    save: bool


def fit(
    model: nn.Module,
    loss: Loss,
    config: TrainConfig,
    *,
    averages: Sequence[Ema] = (),
    discriminator: DiscriminatorTraining | None = None,
    on_epoch: Callable[[nn.Module, int], dict[str, float]] = lambda model, epoch: {},
    ranks: Ranks = SINGLE_PROCESS,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train ``model`` in place.

    Every rank calls this with the same arguments and returns the same. Rank 0 alone reads and writes the state, and
    calls ``on_epoch``. Under FSDP ``model`` stays sharded; the returned network and the averages are whole.

    Args:
        model: the network, on its device.
        loss: step (counted from 0) -> (weight, loss, terms for the log) of each micro-batch of this rank. It depends on
            the step and on ``model`` alone, so that a restart at any step repeats and skips nothing. Weights sum to 1
            over all ranks.
        config: epochs, optimizer, saving.
        averages: averaged copies of ``model`` as it is before its first step. They are updated in place.
        discriminator: a second network that trains against ``model``, in place too.
        on_epoch: (first average, else ``model``; epoch, counted from 1) -> more values for the epoch's row. It may draw
            figures. Names with an ``@`` are details, which the log and the progress bar leave out.
        ranks: the processes that share the work.

    Returns:
        The first average, else ``model``, in evaluation mode, and one row per epoch.

    Raises:
        UserError: a loss or a gradient became infinite or NaN.
        InterruptedRunError: SIGINT or SIGTERM reached any rank; the state is saved.
        LostRankError: another process has ended.
    """
    eval_model = EvalModel(model, averages, ranks)  # before the optimizer, since it shards the weights under FSDP
    state = RunState(*_trained_modules(model, loss, discriminator, config), averages)
    with reporting_lost_ranks(ranks):
        _resume(state, config, ranks)
    last_save = time.monotonic()
    trackers = config.saving.trackers if ranks.is_main else Trackers()
    with (
        trackers,
        deferred_interrupts() as stop_requested,
        _progress_bar(state, config, ranks) as bar,
        reporting_lost_ranks(ranks),
    ):
        while state.step < config.total_steps:
            terms: dict[str, float] = {}
            for module in state.active_modules():  # the model, then the discriminator
                module.network.train()
                batch = _BatchSums()
                for weight, micro_loss, micro_terms in module.loss(state.step):
                    (weight * micro_loss).backward()
                    batch.add(weight, micro_loss, micro_terms)
                save_due = ranks.is_main and time.monotonic() - last_save > config.saving.every_seconds
                # Signals are only ever raised within a step, so those of the last module hold for all of it.
                stop, save = _all_reduce(module.network, batch, StopSignals(stop_requested(), save_due), ranks)
                gradient_norm = full_tensor(
                    nn.utils.clip_grad_norm_(module.network.parameters(), module.clip_norm)
                ).item()
                module.require_finite(batch.loss, gradient_norm, state.step)
                module.optimizer_step(state.step)
                terms |= batch.terms
            for average in averages:
                average.update(state.step)
            state.log(terms)
            state.step += 1
            bar.update()

            if state.step % config.steps_per_epoch == 0:
                row = _end_epoch(state, eval_model, config, on_epoch, ranks)
                bar.set_postfix(_summary(row))
                trackers.log(row)
                stop = ranks.any_rank(stop or stop_requested())
            if state.step == config.extension_step:
                _save(state, config.saving.file.save_extension_point, config, ranks)
            if stop or save:
                _save(state, config.saving.file.save, config, ranks)
                last_save = time.monotonic()
            if stop:
                ranks.barrier()  # rank 0 may still be writing
                raise InterruptedRunError
        _save(state, config.saving.file.save_at_finish, config, ranks)
        return eval_model.gathered(), state.history


def _trained_modules(
    model: nn.Module, loss: Loss, discriminator: DiscriminatorTraining | None, config: TrainConfig
) -> tuple[TrainedModule, TrainedModule | None]:
    """Build the optimizers."""

    def build(
        network: nn.Module, loss: Loss, optimizer: Optimizer, first_step: int, section: str, remedy: str
    ) -> TrainedModule:
        betas, decay = optimizer.betas, optimizer.weight_decay
        adamw = torch.optim.AdamW(network.parameters(), lr=optimizer.lr, betas=betas, weight_decay=decay, fused=True)
        learning_rate = partial(optimizer.rate, total_steps=config.total_steps, steps_per_epoch=config.steps_per_epoch)
        return TrainedModule(network, loss, adamw, learning_rate, optimizer.clip_norm, first_step, section, remedy)

    remedy = f"lower {config.section}.optimizer.lr or raise {config.section}.optimizer.warmup_steps"
    first = build(model, loss, config.optimizer, 0, config.section, remedy)
    if discriminator is None:
        return first, None
    second, section = discriminator, discriminator.section
    return first, build(
        second.network, second.loss, second.optimizer, second.first_step, section, f"lower {section}.lr"
    )


def _progress_bar(state: RunState, config: TrainConfig, ranks: Ranks) -> "tqdm[NoReturn]":
    hidden = None if ranks.is_main else True  # None = where the output is no terminal
    return tqdm(total=config.total_steps, initial=state.step, desc=config.section, disable=hidden, mininterval=1)


class _BatchSums:
    """Loss and logged terms of a batch, summed over its micro-batches by weight."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.terms: dict[str, float] = {}

    def add(self, weight: float, loss: Tensor, terms: dict[str, Tensor]) -> None:
        """Add a micro-batch."""
        self.loss += weight * loss.item()
        for name, term in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + weight * term.item()


def _all_reduce(network: nn.Module, batch: _BatchSums, signals: StopSignals, ranks: Ranks) -> StopSignals:
    """Sum gradients, loss, terms and signals over all ranks, in one message; FSDP has summed its gradients already."""
    if ranks.count == 1:
        return signals
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    numbers = torch.tensor(
        [batch.loss, *signals, *batch.terms.values()], dtype=gradients[0].dtype, device=gradients[0].device
    )
    ranks.all_reduce([numbers] if ranks.sharded else [*gradients, numbers])
    batch.loss, stop, save, *terms = numbers.tolist()
    batch.terms = dict(zip(batch.terms, terms, strict=True))
    return StopSignals(stop > 0, save > 0)


def _end_epoch(
    state: RunState,
    eval_model: EvalModel,
    config: TrainConfig,
    on_epoch: Callable[[nn.Module, int], dict[str, float]],
    ranks: Ranks,
) -> dict[str, float]:
    """Validate, and append the epoch's row to the history: means of the logged terms, and what ``on_epoch`` adds."""
    epoch = state.step // config.steps_per_epoch
    row: dict[str, float] = {"epoch": epoch, **state.close_epoch()}
    # Validation and figures have batches of many sizes, and each size would be compiled anew.
    with torch.compiler.set_stance("force_eager"), eval_model.on_rank0() as network, torch.no_grad():
        row |= ranks.broadcast_object(on_epoch(network, epoch) if ranks.is_main else None)
    state.history.append(row)
    log.info("%s", ", ".join(f"{name} {value:.5g}" for name, value in _summary(row).items()))
    return row


def _summary(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if "@" not in name}


def _resume(state: RunState, config: TrainConfig, ranks: Ranks) -> None:
    """Load the state of an earlier run on all ranks; without one, give all ranks the weights of rank 0."""

    def usable(meta: dict[str, Any]) -> bool:
        """Return whether this run passes through that state.

        Both runs have the same length, or the learning rate does not depend on the length up to there.
        """
        invariant = config.optimizer.schedule_invariant_steps(meta["total_steps"])
        return meta["total_steps"] == config.total_steps or bool(meta["step"] <= min(config.extension_step, invariant))

    if saved := config.saving.file.load(usable) if ranks.is_main else None:
        log.info("resumed %s at step %d", config.saving.file.stage, saved[1]["step"])
    if saved is None and ranks.count > 1 and not ranks.sharded:
        # Other processors may initialise weights with other last digits, and replicas must not drift apart.
        saved = state.save(config.total_steps)
    if ranks.broadcast_object(saved is not None):
        state.restore(*ranks.broadcast(*(saved or ({}, {}))))


def _save(
    state: RunState, write: Callable[[dict[str, Tensor], dict[str, Any]], None], config: TrainConfig, ranks: Ranks
) -> None:
    """Gather the state, which may be sharded, and write it on rank 0."""
    saved = state.save(config.total_steps)
    if ranks.is_main:
        write(*saved)
