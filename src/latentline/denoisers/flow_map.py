"""The flow map of a denoiser that has learnt one (:mod:`latentline.diffusion.flow_map`)."""

from dataclasses import replace

from torch import Tensor

from latentline.core.condition import Condition
from latentline.denoisers.text_conditioned import encoded_condition
from latentline.diffusion.flow_map import AverageNetwork
from latentline.diffusion.process import DenoiserModel


def with_averages(model: DenoiserModel, network: AverageNetwork, condition: Condition) -> DenoiserModel:
    """Return ``model`` with the average velocities of its network, where that has learnt them.

    They cost one evaluation, since the guidance is learnt with them.

    Args:
        model: the guided network.
        network: of the model.
        condition: of B examples.
    """
    if model.process.flow_map is None:
        return model
    encoded = encoded_condition(network, condition)

    def average(z_t: Tensor, t: Tensor, r: Tensor) -> Tensor:
        return network(z_t, t, encoded, r)

    return replace(model, average=average)
