"""A small training in the one loop, which a test can stop or kill at any step."""

import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from latentline.core.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler
from latentline.runtime.compute import to_device
from latentline.runtime.resume import ResumeFile
from latentline.runtime.state_saver import StateSaver
from latentline.training.ema import Ema
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch
from latentline.training.optimizer import Optimizer

EPOCHS, STEPS = 3, 4
OPTIMIZER = Optimizer(lr=1e-2, weight_decay=0.01, warmup_steps=2, decay_fraction=0.4, clip_norm=1.0)
NEVER = 1e9  # seconds
T = TypeVar("T")
Result = tuple[list[nn.Module], nn.Module, list[dict[str, float]]]


@dataclass
class Run:
    """One training of a network with all that a restart can lose: running statistics, dropout, memory layouts."""

    decays: tuple[float, ...] = ()
    epochs: int = EPOCHS
    at_step: Callable[[int], None] = lambda step: None
    optimizer: Optimizer = OPTIMIZER
    extendable: bool = False
    keep_bytes: int = 2 << 30
    device: str = "cpu"
    steps_done: list[int] = field(default_factory=list)
    epochs_reported: list[tuple[int, bool]] = field(default_factory=list)

    def fit(self) -> Result:
        """Return the network and its averages, the weights to be used, and the history."""
        torch.manual_seed(7)
        layers = [
            nn.Conv2d(1, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 4, 1),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64, 3),
        ]
        network = to_device(nn.Sequential(*layers), torch.device(self.device))
        images, labels = torch.randn(20, 1, 6, 6, generator=generator(0, "images")), torch.arange(20) % 3
        images, labels = images.to(self.device), labels.to(self.device)
        order = EpochSampler(20, 5, seed=1)

        def loss(step: int) -> list[MicroBatch]:
            self.steps_done.append(step)
            self.at_step(step)
            torch.manual_seed(derive_seed(0, "dropout", step))
            rows = order.rows(step)
            value = F.cross_entropy(network(images[rows].contiguous(memory_format=torch.channels_last)), labels[rows])
            return [(1.0, value, {"loss": value, "double": 2 * value})]

        def on_epoch(used: nn.Module, epoch: int) -> dict[str, float]:
            self.epochs_reported.append((epoch, used.training))
            return {"val_loss": F.cross_entropy(used(images), labels).item()}

        file = ResumeFile("train_test", {"decays": self.decays}, (), keep_bytes=self.keep_bytes)
        saving = Saving(file, NEVER, extendable=self.extendable)
        config = TrainConfig("test", self.epochs, STEPS, self.optimizer, saving)
        averages = [Ema(network, decay) for decay in self.decays]
        used, history = fit(network, loss, config, averages=averages, on_epoch=on_epoch)
        file.finish()
        return [network, *(average.model for average in averages)], used, history


def save_after_each_step(patch: pytest.MonkeyPatch) -> None:
    """Make trainings save after each step, whatever a save costs."""
    patch.setattr(StateSaver, "due", lambda self: self._ranks.is_main)


def reference(train: Callable[[], T]) -> T:
    """Return the result of ``train``, whose state lies in a folder of its own: no other run resumes from it."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", folder)
        return train()


def bytes_of(*modules: nn.Module) -> list[dict[str, bytes]]:
    """Return the bytes of each tensor of the modules."""
    return [
        {name: tensor.cpu().contiguous().numpy().tobytes() for name, tensor in module.state_dict().items()}
        for module in modules
    ]


def asked_to_stop(at: int, by: signal.Signals = signal.SIGTERM) -> Callable[[int], None]:
    """Return a function of the step that sends this process a signal at step ``at``."""

    def at_step(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), by)

    return at_step


def killed(at: int) -> Callable[[int], None]:
    """Return a function of the step that fails at step ``at``."""

    def at_step(step: int) -> None:
        if step == at:
            raise RuntimeError("killed")

    return at_step


def assert_same(one: Result, other: Result) -> None:
    """Compare the bytes of two results of :meth:`Run.fit`."""
    assert bytes_of(*one[0]) == bytes_of(*other[0])
    assert bytes_of(one[1]) == bytes_of(other[1])
    rows, other_rows = ([list(row.items()) for row in result[2]] for result in (one, other))
    assert rows == other_rows  # in the order of the table's columns, too


def assert_a_stop_and_a_kill_change_nothing(run: Run) -> None:
    """Compare a training that is stopped, then killed, then ended, with one that nothing interrupts."""
    uninterrupted = reference(replace(run).fit)
    with pytest.raises(BaseException):  # noqa: B017 - of either kind
        replace(run, at_step=asked_to_stop(4)).fit()
    with pytest.raises(RuntimeError, match="killed"):
        replace(run, at_step=killed(9)).fit()
    assert_same(replace(run).fit(), uninterrupted)
