"""Give samples the moments of the training latents (:mod:`latentline.denoisers.moment_matching`)."""

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor

from latentline.core.labels import LabelTable, class_names
from latentline.core.progress import with_progress
from latentline.denoisers.conditioning import Conditioning, labels_for_samples
from latentline.denoisers.gaussian_prior import GaussianPrior, gaussian_prior_of
from latentline.denoisers.load import Denoiser
from latentline.denoisers.moment_matching import MomentMaps
from latentline.runtime.memory import require_memory
from latentline.runtime.parallel import Ranks
from latentline.runtime.resume import ResumeFile
from stages.sample.params import SampleParams

_NAME = "sample/moments"  # of the noise
_FILE = "moments.safetensors"  # of the stage's state
_LEAST = 100  # samples, and training images, that moments are measured on
Draw = Callable[[str, Tensor, LabelTable], Tensor]
"""Name of a series of samples, indices (B,), their labels -> standardised latents (B, ...)."""
log = logging.getLogger(__name__)


def measure_moments(
    draw: Draw, denoiser: Denoiser, training: LabelTable, params: SampleParams, ranks: Ranks, state: ResumeFile
) -> MomentMaps | None:
    """Draw ``params.moment_samples`` samples with noise of their own; return their maps, or None where there are none.

    A run that goes on with ``state`` takes the maps that lie there.

    Args:
        draw: returns latents.
        denoiser: that they are drawn with.
        training: labels of the training images.
        params: of the section.
        ranks: the processes that share the work.
        state: of the stage.

    Raises:
        UserError: they do not fit into memory, or another run of the same state is under way.
    """
    count = params.moment_samples
    if not count:
        return None
    prior = gaussian_prior_of(denoiser.network)
    obstacle = _obstacle(prior, denoiser.conditioning)
    if prior is None or obstacle:
        log.info("sample.moment_samples (%d) is not used: %s", count, obstacle)
        return None
    needed = 4 * count * math.prod(denoiser.latent_shape)
    require_memory(needed, denoiser.device, f"sample.moment_samples ({count}) need", "lower it")
    labels = labels_for_samples(training, count)
    groups = _groups(prior, labels, len(training))
    if few := groups.count(None):
        message = "sample.moment_samples (%d): classes with fewer than %d samples, or too few images, not corrected: %d"
        log.info(message, count, _LEAST, few)
    if few == len(groups):
        return None
    state.claim(ranks.number)
    saved = state.read(state.folder / _FILE) if ranks.is_main else None
    maps = MomentMaps.like(prior, denoiser.latent_shape)
    tensors = saved[0] if saved else maps.state_dict()
    if ranks.broadcast_object(saved is not None):  # rank 0 decides for all, since all draw or none
        log.info("resumed with the moments of %d samples", count)
    else:
        own = ranks.slice_of(count)
        batches = torch.arange(own.start, own.stop).split(params.batch_size)
        bar = with_progress(batches, len(batches), "batches for the moments", shown=ranks.is_main)
        z0 = ranks.all_gather(torch.cat([draw(_NAME, indices, labels[indices]).float() for indices in bar]), count)
        if ranks.is_main:
            for index, rows in enumerate(groups):
                if rows is not None:
                    maps.fit(index, z0[rows], prior)
            state.write(_FILE, tensors, {})
    tensors, _ = ranks.broadcast(tensors, {})
    maps.load_state_dict(tensors)
    return maps.to(denoiser.device)


def _obstacle(prior: GaussianPrior | None, conditioning: Conditioning) -> str | None:
    """Return why moments cannot be matched; None = they can."""
    if prior is None:
        return "denoiser.gaussian_rank is 0"
    if conditioning.tokenizer is not None:
        return "prompts differ from the captions of training"
    classes = len(class_names(conditioning.attributes))
    return None if prior.classes == classes else f"the {classes} classes share one Gaussian"


def _groups(prior: GaussianPrior, labels: LabelTable, images: int) -> list[Tensor | None]:
    """Return the rows of the samples of each Gaussian, fitted to ``images``; None = too few, or none of its own.

    Samples have the classes in turn, whatever the images' share. So those of all classes together are not compared with
    the latents of all.
    """
    if not prior.classes:
        return [torch.arange(len(labels)) if min(len(labels), images) >= _LEAST else None]
    rows = [(labels.values[:, 0] == label).nonzero()[:, 0] for label in range(prior.classes)]
    of_all = prior.mean[prior.classes]
    own = [not torch.equal(mean, of_all) for mean in prior.mean[: prior.classes]]
    return [here if len(here) >= _LEAST and fitted else None for here, fitted in zip(rows, own, strict=True)]
