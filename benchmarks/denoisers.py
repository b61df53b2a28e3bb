"""Cost of a training step of each denoiser: forward, backward and AdamW on one thread, batches of random latents.

    python benchmarks/denoisers.py

Networks take turns, and the time is the processor's, so that other work on the machine harms little. The median turn
counts.
"""

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from latentline.core.condition import Condition
from latentline.denoisers.build import build_denoiser

_BATCH = 64
_CLASSES = 10
_STEPS, _TURNS = 4, 7
_MAP, _VECTOR = (6, 7, 7), (256,)
NETWORKS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [  # the first is the unit of the ratios
    ("unet", _MAP, {"channels": [64, 64], "blocks": 1, "attention_levels": []}),
    ("unet", _MAP, {"channels": [64, 64], "blocks": 1, "attention_levels": [0, 1]}),
    ("dit", _MAP, {"patch_size": 1, "width": 96, "depth": 4, "heads": 3}),
    ("dit", _MAP, {"patch_size": 2, "width": 96, "depth": 4, "heads": 3}),
    ("dit", _MAP, {"patch_size": 1, "width": 192, "depth": 6, "heads": 3}),
    ("dit", _MAP, {"patch_size": 2, "width": 192, "depth": 6, "heads": 3}),
    ("mlp", _VECTOR, {"width": 512, "depth": 5}),
    ("mlp", _VECTOR, {"width": 1024, "depth": 9}),
]


class Training:
    """One network with its optimizer."""

    def __init__(self, name: str, shape: tuple[int, ...], params: dict[str, Any]) -> None:
        self.network = build_denoiser(name, latent_shape=shape, cond_dim=_CLASSES, **params).to(
            memory_format=torch.channels_last
        )
        self.optimizer = torch.optim.AdamW(self.network.parameters(), fused=True)
        self.target = torch.randn(_BATCH, *shape)
        self.t = torch.rand(_BATCH)
        self.condition = Condition(nn.functional.one_hot(torch.arange(_BATCH) % _CLASSES, _CLASSES).float())  # (B, F)

    def seconds(self, steps: int) -> float:
        """Return the processor time of one step."""
        started = time.process_time()
        for _ in range(steps):
            loss = (self.network(self.target, self.t, self.condition) - self.target).square().mean()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return (time.process_time() - started) / steps


def main() -> None:
    """Measure all and print a table in Markdown."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    trainings = [Training(*network) for network in NETWORKS]
    turns = [[training.seconds(_STEPS) for training in trainings] for _ in range(_TURNS)][1:]  # the first turn warms up
    medians = [statistics.median(turn[index] for turn in turns) for index in range(len(trainings))]
    print("| network | latent | settings | parameters | ms per step | ratio |\n|---|---|---|---|---|---|")
    for (name, shape, settings), training, median in zip(NETWORKS, trainings, medians, strict=True):
        parameters = sum(parameter.numel() for parameter in training.network.parameters())
        described = ", ".join(f"{setting}: {value}" for setting, value in settings.items())
        print(
            f"| {name} | {'x'.join(map(str, shape))} | {described} "
            f"| {parameters / 1e6:.2f} M | {1e3 * median:.0f} | {median / medians[0]:.2f} |"
        )


if __name__ == "__main__":
    main()
