"""Build, initialise and train the denoiser: all that its checkpoint depends on.

The resume key of the training covers this module and its imports. It therefore imports nothing that draws figures.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentline.core.files import sha256_file
from latentline.core.params import NO_WEIGHTS
from latentline.core.paths import LATENT_STATS
from latentline.core.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler
from latentline.denoisers.build import build_denoiser, is_hidden_matrix
from latentline.denoisers.conditioning import build_conditioning
from latentline.denoisers.load import Denoiser
from latentline.diffusion.flow_map import Intervals, flow_map_loss, sample_intervals
from latentline.diffusion.objective import denoising_loss, sample_times
from latentline.diffusion.process import build_process
from latentline.latents.cache import LatentStats, read_labels
from latentline.latents.caption_states import read_states
from latentline.latents.tokens import read_tokenizer, tokens_digest
from latentline.runtime.compute import channels_last, to_device
from latentline.runtime.memory import ForwardPass, require_trainable
from latentline.runtime.parallel import Ranks
from latentline.runtime.precision import activation_scale
from latentline.training.config import optimizer_of
from latentline.training.ema import Ema
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch, largest_micro_batch, own_micro_batches
from latentline.training.step_inputs import Inputs, StepInputs
from stages.train_denoiser.evaluate import evaluate
from stages.train_denoiser.init_from import begin_with
from stages.train_denoiser.latents import Latents
from stages.train_denoiser.params import DenoiserParams
from stages.train_denoiser.prior import prior_arguments
from stages.train_denoiser.trajectories import draw_trajectories

STAGE = "train_denoiser"
LOSS_AT = "val_loss@"  # columns of the history: the loss by time


def build(
    params: DenoiserParams,
    stats: LatentStats,
    seed: int,
    device: torch.device,
    ranks: Ranks,
    *,
    keeps_activations: bool = True,
) -> tuple[Denoiser, dict[str, Any]]:
    """Build the denoiser, and initialise its weights from the seed or from ``params.init_from``.

    Args:
        params: of the section.
        stats: of the latents.
        seed: of the run.
        device: where the network trains.
        ranks: the processes that share the training.
        keeps_activations: False where a training keeps fewer than all activations of a forward pass: compiled, or with
            gradient checkpointing.

    Returns:
        The denoiser, and the arguments of ``save_checkpoint`` for it, without its tensors.

    Raises:
        UserError: the network does not fit into memory, does not fit the latents, or cannot take the initial weights.
    """
    conditioning = build_conditioning(params.condition, stats.schema, read_tokenizer(), read_states(Path(), device))
    path_and_prediction = params.process.model_dump(include={"path", "prediction"})
    tokenizer, states = conditioning.tokenizer, conditioning.states
    constructor = {
        "latent_shape": list(stats.shape),
        "cond_dim": conditioning.cond_dim,
        **params.constructor(),
        **prior_arguments(params.gaussian_rank, stats.shape, conditioning, path_and_prediction),
    }
    if tokenizer is not None and states is not None:
        sizes = {"state_width": states.info.width, "length": tokenizer.length, "width": params.text.width}
        constructor["text"] = sizes
    elif tokenizer is not None:
        constructor["text"] = {"num_ids": tokenizer.num_ids, "length": tokenizer.length, **params.text.model_dump()}

    def forward(network: nn.Module, rows: int) -> object:
        return network(torch.empty(rows, *stats.shape), torch.empty(rows), conditioning.null(rows))

    rows = largest_micro_batch(
        min(params.optimizer.batch_size, len(read_labels(stats.schema))), params.optimizer.accumulate, ranks
    )
    counted = params.epochs and keeps_activations
    require_trainable(
        lambda: build_denoiser(params.name, **constructor),
        device,
        "denoiser",
        params.constructor(),
        ranks,
        ForwardPass(rows, forward, activation_scale(params.optimizer.precision)) if counted else None,
    )
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    network = to_device(build_denoiser(params.name, **constructor), device)
    learnt = params.flow_map.guidance() if params.objective == "flow_map" else None
    process = build_process(**path_and_prediction, flow_map=learnt)
    denoiser = Denoiser(network, process, conditioning, stats.shape, device)
    settings = {
        "condition": conditioning.names,
        "process": path_and_prediction | ({} if learnt is None else {"flow_map": learnt}),
        "precision": params.optimizer.precision,
    }
    trained_on = {"autoencoder": stats.autoencoder, "latents": sha256_file(LATENT_STATS)}
    if tokenizer is not None:
        encoder = {} if states is None else {"encoder": asdict(states.info)}
        settings["text"] = {"tokenizer": tokenizer.json, "length": tokenizer.length, **encoder}
        trained_on["tokens"] = tokens_digest()
    if params.init_from != NO_WEIGHTS:
        trained_on["init_from"], guide = begin_with(denoiser, params, settings, constructor, stats)
        denoiser = replace(denoiser, guide=guide)
    checkpoint = {"kind": "denoiser", "name": params.name, "constructor": constructor, "settings": settings}
    return denoiser, {**checkpoint, "trained_on": trained_on}


def train(
    denoiser: Denoiser,
    params: DenoiserParams,
    splits: dict[str, Latents],
    seed: int,
    saving: Saving,
    ranks: Ranks,
    draw_preview: Callable[[Denoiser, int], None],
) -> tuple[dict[float, Denoiser], nn.Module | None, list[dict[str, float]]]:
    """Train the denoiser, or with ``params.epochs`` 0 only evaluate it.

    Args:
        denoiser: as built; trained in place. With objective ``flow_map`` it is the teacher's copy.
        params: of the section.
        splits: of the latents; ``train`` and ``val`` are used.
        seed: of the run.
        saving: where and how often to save the state.
        ranks: the processes that share the work.
        draw_preview: receives the first average and the epoch, after each epoch.

    Returns:
        The denoiser with each of the averaged weights, by their decay; the network with the first average after
        ``params.guide_epochs``, or None where there is none; one row per epoch, of the first average.
    """
    latents, device, distils = splits["train"], denoiser.device, params.objective == "flow_map"
    trajectories = _teacher_trajectories(denoiser, params, latents, seed, saving, ranks) if distils else None
    order = EpochSampler(len(latents), params.optimizer.batch_size, derive_seed(seed, STAGE, "order"))

    own, parts = own_micro_batches(order.batch_size, params.optimizer.accumulate, ranks)

    def draw(step: int) -> Inputs:
        rows = order.rows(step)
        numbers = generator(seed, STAGE, "noise", step)
        latents.source.prefetch(order.rows(step + 1)[own])
        t = sample_times(len(rows), params.process.time_sampling, numbers)
        noise = torch.randn((len(rows), *denoiser.latent_shape), generator=numbers)
        dropped = torch.rand(len(rows), generator=numbers) < params.label_dropout
        inputs = {"t": t, "noise": noise, "dropped": dropped}
        if trajectories is not None:
            intervals = sample_intervals(t, params.flow_map.fraction, generator(seed, STAGE, "intervals", step))
            averaged = intervals.r < intervals.t
            # Each pass over the latents takes other trajectories, where there are more of them.
            taken = (rows + step // order.steps_per_epoch * len(latents)) % len(trajectories)
            rows, dropped = torch.where(averaged, taken % len(latents), rows), dropped & ~averaged
            inputs |= {"t": intervals.t, "r": intervals.r, "dropped": dropped, "trajectory": taken}
        return {**latents.inputs(rows[own]), **{name: part[own] for name, part in inputs.items()}}

    inputs_of = StepInputs(draw, device)

    def loss(step: int) -> Iterator[MicroBatch]:
        inputs = inputs_of(step)
        z0, condition = latents.batch(inputs)
        z0, condition = channels_last(z0), condition.dropped(inputs["dropped"])
        for weight, part in parts:
            z, t, rows, noise = z0[part], inputs["t"][part], condition.rows(part), inputs["noise"][part]
            if trajectories is None:
                weighting = params.process.loss_weighting
                losses = denoising_loss(denoiser.network, denoiser.process, z, rows, t, noise, weighting)
            else:
                states = trajectories[inputs["trajectory"][part]]
                losses = flow_map_loss(denoiser.network, z, states, rows, Intervals(t, inputs["r"][part]), noise)
            value = losses.mean()
            yield weight, value, {"loss": value}

    def on_epoch(averaged: nn.Module, epoch: int) -> dict[str, float]:
        averaged_denoiser = replace(denoiser, network=averaged)
        draw_preview(averaged_denoiser, epoch)
        val_loss, by_time = evaluate(averaged_denoiser, splits["val"], seed)
        return {"val_loss": val_loss, **{f"{LOSS_AT}{t}": value for t, value in by_time.items()}}

    if params.epochs == 0:
        row = {"epoch": 0, "loss": math.nan, **on_epoch(denoiser.network.eval(), 0)}
        return {params.ema_decays[0]: denoiser}, denoiser.guide, [row]
    averages, guides = [Ema(denoiser.network, decay) for decay in params.ema_decays], []
    if params.guide_epochs and denoiser.conditioning.is_conditional and not distils:
        # A longer run may use what this one does not.
        steps = params.guide_epochs * order.steps_per_epoch
        guides.append(Ema(denoiser.network, params.ema_decays[0], steps))
    optimizer = replace(optimizer_of(params.optimizer), by_muon=is_hidden_matrix if params.muon else None)
    size = order.batch_size
    config = TrainConfig("denoiser", params.epochs, order.steps_per_epoch, optimizer, saving, len(parts), size)
    _, history = fit(denoiser.network, loss, config, averages=[*averages, *guides], on_epoch=on_epoch, ranks=ranks)
    trained = {average.decay: replace(denoiser, network=average.model) for average in averages}
    guide = guides[0].model if guides and params.guide_epochs < params.epochs else None
    return trained, denoiser.guide if distils else guide, history


def _teacher_trajectories(
    denoiser: Denoiser, params: DenoiserParams, latents: Latents, seed: int, saving: Saving, ranks: Ranks
) -> Tensor:
    """Return the trajectories that a flow map learns; the teacher is the denoiser as it was built."""
    teacher = replace(
        denoiser,
        network=copy.deepcopy(denoiser.network).eval().requires_grad_(False),
        process=replace(denoiser.process, flow_map=None),
    )
    return draw_trajectories(teacher, params.flow_map, latents, seed, saving, ranks, params.optimizer.precision)


def best_average(averaged: dict[float, Denoiser], val: Latents, seed: int) -> tuple[Denoiser, dict[str, Any]]:
    """Return the average with the lowest validation loss, and the losses for metrics/denoiser.json."""
    losses = {decay: evaluate(denoiser, val, seed)[0] for decay, denoiser in averaged.items()}
    best = min(losses, key=losses.__getitem__)
    by_decay = {str(decay): loss for decay, loss in losses.items()}
    return averaged[best], {"ema_decay": best, "val_loss": losses[best], "val_loss_by_ema_decay": by_decay}
