"""The one training loop, for every network."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from latentline.core.interrupt import InterruptedRunError, deferred_interrupts
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks, reporting_lost_ranks
from latentline.runtime.precision import autocast, require_supported, tensor_cores
from latentline.runtime.resume import ResumeFile
from latentline.runtime.state_saver import StateSaver
from latentline.runtime.trackers import Trackers
from latentline.training.ema import Ema
from latentline.training.eval_model import EvalModel
from latentline.training.flops import StepFlops
from latentline.training.gradients import GradientBuckets
from latentline.training.micro_batches import Loss
from latentline.training.optimizer import Optimizer
from latentline.training.progress import Progress, Speed
from latentline.training.state import RunState, TrainedModule
from latentline.training.step_log import StepLog, StepNumbers

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
    on_terms: Callable[[int, dict[str, float]], None] = lambda step, terms: None
    """Receives each step and the logged terms of either network, once they are read; may raise UserError."""


@dataclass(frozen=True)
class Saving:
    """Where and how often the running state is saved, and which trackers log the epochs."""

    file: ResumeFile
    every_seconds: float
    trackers: Trackers = field(default_factory=Trackers)
    extendable: bool = False
    """Whether a run of more epochs may continue this one; neither the key nor the loss may depend on ``epochs``."""
    on_speed: Callable[[Speed], None] = lambda speed: None
    """Receives the speed of the steps after the training, on rank 0."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training."""

    section: str
    """Section of params.yaml, for the progress bar and for error messages."""
    epochs: int
    steps_per_epoch: int
    optimizer: Optimizer
    saving: Saving
    micro_batches: int = 1
    """Micro-batches that the loss yields at each step on each rank; checked where there are several ranks."""
    batch_size: int = 0
    """Images of a step on all ranks, for the speed; 0 = unknown."""

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def extension_step(self) -> int:
        """Step from which a run of more epochs may continue; 0 = none."""
        return self.optimizer.schedule_invariant_steps(self.total_steps) if self.saving.extendable else 0


class Signals(NamedTuple):
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
    precision, device = config.optimizer.precision, next(model.parameters()).device
    require_supported(device, precision, f"{config.section}.optimizer.precision", sharded=ranks.sharded)
    # Before the optimizer, since it shards the weights under FSDP.
    eval_model = EvalModel(model, averages, ranks, torch.bfloat16 if precision == "bf16" else None)
    state = RunState(*_trained_modules(model, loss, discriminator, config, ranks), averages)
    with reporting_lost_ranks(ranks):
        _resume(state, config, ranks)
    step_log: StepLog[TrainedModule] = StepLog(device, state.step)
    first_step, capture = state.step, partial(state.save, config.total_steps)
    progress = Progress(config.section, config.total_steps, first_step, config.batch_size, device, precision, ranks)
    step_flops = StepFlops()
    trackers = config.saving.trackers if ranks.is_main else Trackers()
    with (
        trackers,
        deferred_interrupts() as stop_requested,
        StateSaver(config.saving.file, config.saving.every_seconds, ranks) as saver,
        progress,
        reporting_lost_ranks(ranks),
        tensor_cores(precision),
    ):
        while state.step < config.total_steps:
            active = state.active_modules()  # the model, then the discriminator
            for module in active:
                module.network.train()
                numbers = StepNumbers()
                with step_flops.counted(module, state.step):
                    for micro_batch in module.micro_batches(state.step):
                        numbers.add(*micro_batch)
                module.gradients.finish()
                _all_reduce(module.network, numbers, ranks)
                numbers.gradient_norm = module.clip_gradients()
                module.optimizer_step(state.step, finite=numbers.finite())
                step_log.add(state.step, module, numbers)
            state.update_averages()
            state.step += 1
            progress.advance(sum(step_flops[module.network] for module in active))

            ends_epoch = state.step % config.steps_per_epoch == 0
            extends = state.step == config.extension_step
            stopping = ranks.count == 1 and stop_requested()  # several ranks agree when they read
            if not (ends_epoch or extends or stopping or step_log.due(state.step)):
                continue
            _read(step_log, state, discriminator)
            progress.stop_clock()
            stop, save = _agree(Signals(stop_requested(), saver.due()), step_log, state.step, ranks)
            if ends_epoch:
                trackers.log(_end_epoch(state, eval_model, config, on_epoch, ranks))
                stop = ranks.any_rank(stop or stop_requested())
            if extends:
                saver.save_extension_point(capture)
            if stop:
                saver.save_and_wait(capture)
                ranks.barrier()  # rank 0 may still be writing
                raise InterruptedRunError
            if save and state.step < config.total_steps:
                saver.save(capture)
            progress.start_clock(_summary(state.history[-1]) if state.history else {})
        if state.step > first_step:  # else the state that was loaded is the last one
            saver.save_at_finish(capture)
        progress.report(config.saving.on_speed)
        return eval_model.gathered(), state.history


def _trained_modules(
    model: nn.Module, loss: Loss, discriminator: DiscriminatorTraining | None, config: TrainConfig, ranks: Ranks
) -> tuple[TrainedModule, TrainedModule | None]:
    """Build the optimizers."""

    def build(
        network: nn.Module, loss: Loss, optimizer: Optimizer, first_step: int, section: str, remedy: str
    ) -> TrainedModule:
        learning_rate = partial(optimizer.rate, total_steps=config.total_steps, steps_per_epoch=config.steps_per_epoch)
        gradients = GradientBuckets(network, ranks, config.micro_batches)
        if optimizer.precision == "fp16":
            remedy += ", or set the precision to bf16"
        return TrainedModule(
            network,
            loss,
            optimizer.of(network),
            gradients,
            learning_rate,
            optimizer.clip_norm,
            first_step,
            section,
            remedy,
            optimizer.precision,
        )

    remedy = f"lower {config.section}.optimizer.lr or raise {config.section}.optimizer.warmup_steps"
    first = build(model, loss, config.optimizer, 0, config.section, remedy)
    if discriminator is None:
        return first, None
    second, section = discriminator, discriminator.section
    return first, build(
        second.network, second.loss, second.optimizer, second.first_step, section, f"lower {section}.lr"
    )


def _all_reduce(network: nn.Module, numbers: StepNumbers, ranks: Ranks) -> None:
    """Sum loss and terms over all ranks, in one message."""
    if ranks.count == 1:
        return
    total = numbers.total(torch.float64).to(next(network.parameters()).dtype)
    ranks.all_reduce([total])
    numbers.parts = [(1.0, total)]


def _read(step_log: StepLog[TrainedModule], state: RunState, discriminator: DiscriminatorTraining | None) -> None:
    """Read the numbers of the latest steps, add them to the epoch's, and refuse those that are not finite."""
    for step, module, numbers in step_log.read():
        if discriminator:
            discriminator.on_terms(step, numbers.terms)
        module.require_finite(numbers, step)
        state.log(numbers.terms)


def _agree(own: Signals, step_log: StepLog[TrainedModule], step: int, ranks: Ranks) -> Signals:
    """Return the signals of all ranks, and fix, by the clock of rank 0, the step after which they read again."""
    steps = step_log.steps_to_next(step)
    if ranks.count > 1:
        numbers = torch.tensor([*own, steps if ranks.is_main else 0], dtype=torch.float32, device=ranks.device)
        ranks.all_reduce([numbers])
        stop, save, of_rank0 = numbers.tolist()
        own, steps = Signals(stop > 0, save > 0), int(of_rank0)
    step_log.read_again_at(step + steps)
    return own


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
    evaluated = autocast(state.model.device, config.optimizer.precision)
    # Validation has batches of other sizes, and figures of a few images; each size would be compiled anew.
    eager = torch.compiler.set_stance("force_eager")
    with eager, evaluated, eval_model.on_rank0() as network, torch.no_grad():
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
