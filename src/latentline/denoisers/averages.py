"""Average velocities of a guided denoiser (:mod:`latentline.diffusion.mean_flow`)."""

from dataclasses import replace

from torch import Tensor

from latentline.core.condition import Condition
from latentline.denoisers.text_conditioned import encoded_condition
from latentline.diffusion.mean_flow import AverageNetwork
from latentline.diffusion.process import DenoiserModel


def with_averages(
    model: DenoiserModel, network: AverageNetwork, condition: Condition, guidance_scale: float
) -> DenoiserModel:
    """Return ``model`` with the average velocities of its network, where that has learnt them.

    They cost one evaluation: the network takes the guidance scale as an input.

    Args:
        model: the guided network.
        network: of the model.
        condition: of B examples.
        guidance_scale: from 1 to the largest that the network has learnt; 0 = unconditional.
    """
    if model.process.mean_flow is None:
        return model
    chosen = encoded_condition(network, condition if guidance_scale else condition.null())
    scale = guidance_scale or 1.0

    def average(z_t: Tensor, t: Tensor, r: Tensor) -> Tensor:
        return network(z_t, t, chosen, r, t.new_full(t.shape, scale))

    return replace(model, average=average)
