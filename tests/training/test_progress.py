"""Speed of trainings: FLOPs are counted without a change of any byte, and metrics/timing.json receives the numbers."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from latentline.core.compute_params import ComputeParams
from latentline.runtime.compile import compiled
from latentline.runtime.resume import ResumeFile
from latentline.training.config import saving_of
from latentline.training.flops import FlopCounter
from latentline.training.loop import Saving, TrainConfig, fit
from support.training_run import NEVER, OPTIMIZER, bytes_of, reference

CPU = torch.device("cpu")
BATCH, STEPS = 4, 3
_LAYERS = 2 * BATCH * (8 * 36 * 1 * 9 + 8 * 36 * 3)  # forward: a convolution 3x3 of 6x6 maps, a linear layer


class _Network(nn.Module):
    """Layers with all that counting could disturb: running statistics, dropout, SiLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8 * 36, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(F.dropout(F.silu(self.norm(self.conv(x))), 0.3).flatten(1))


def _train(*, compile: bool = False) -> tuple[list[dict[str, bytes]], list[dict[str, float | None]]]:
    torch.manual_seed(3)
    network, speeds = _Network(), []
    x, labels = torch.randn(BATCH, 1, 6, 6), torch.arange(BATCH) % 3

    def loss(step: int) -> list[tuple[float, torch.Tensor, dict[str, torch.Tensor]]]:
        value = F.cross_entropy(network(x), labels)
        return [(1.0, value, {"loss": value})]

    saving = Saving(ResumeFile("train_test", {}, ()), NEVER, on_speed=speeds.append)
    with compiled(compile, CPU, [network]):
        fit(network, loss, TrainConfig("test", 1, STEPS, OPTIMIZER, saving, batch_size=BATCH))
    return bytes_of(network), speeds


@pytest.fixture
def eager_backend():
    """Make compiled networks run their graphs as they are."""
    torch.compiler.reset()
    with torch.compiler.set_stance("default", force_backend="eager"):
        yield
    torch.compiler.reset()


def test_a_log_says_once_in_a_while_how_far_a_training_is(monkeypatch, caplog):
    monkeypatch.setattr("latentline.training.progress._LOG_SECONDS", -1.0)
    with caplog.at_level("INFO"):
        reference(_train)
    lines = [line for line in caplog.messages if line.startswith("test: step")]
    assert lines == ["test: step 2 of 3, 00:00 left", "test: step 3 of 3, 00:00 left"]


def test_a_training_reports_its_speed():
    _, (speed,) = reference(_train)
    assert speed["images_per_second"] > 0
    # The first layer needs no gradient of its input.
    assert speed["gflop_per_step"] == pytest.approx((2 * _LAYERS + 2 * BATCH * 8 * 36 * 3) / 1e9)
    per_image = speed["gflop_per_step"] / BATCH / 1000
    assert speed["tflop_per_second"] == pytest.approx(speed["images_per_second"] * per_image)
    assert (speed["share_of_peak"], speed["peak_device_memory_mib"]) == (None, None)


def test_counting_changes_no_byte(monkeypatch):
    counted, _ = reference(_train)
    monkeypatch.setattr("latentline.training.flops.FlopCounter", _CountsNothing)
    assert reference(_train)[0] == counted


class _CountsNothing:
    total = 0

    def __enter__(self) -> "_CountsNothing":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_a_compiled_training_counts_the_same_and_keeps_its_bytes(eager_backend, monkeypatch):
    _, (speed,) = reference(_train)
    weights, (compiled_speed,) = reference(lambda: _train(compile=True))
    assert compiled_speed["gflop_per_step"] == speed["gflop_per_step"]
    monkeypatch.setattr("latentline.training.flops._count_apart", lambda module, step: 0)
    assert reference(lambda: _train(compile=True))[0] == weights


def test_flops_are_those_of_torch_and_attention_counts_on_the_cpu():
    network = nn.Linear(5, 7)
    x = torch.randn(2, 5)
    with FlopCounterMode(display=False) as theirs:
        network(x).sum().backward()
    with FlopCounter() as ours:
        network(x).sum().backward()
    assert ours.total == theirs.get_total_flops() > 0
    q = torch.randn(2, 3, 16, 8, requires_grad=True)
    with FlopCounter() as attention:
        F.scaled_dot_product_attention(q, q, q)
    assert attention.total == 2 * 2 * (2 * 3 * 16 * 16 * 8)


def test_the_speed_of_each_training_of_a_stage_has_names_of_its_own(workplace):
    for part in ("", "inner"):
        saving = saving_of("train_x", {}, {}, ComputeParams(), computed_by=[], part=part)
        saving.on_speed({"images_per_second": 20.0, "share_of_peak": None})
    timings = json.loads(Path("metrics/timing.json").read_text())["train_x"]
    assert (timings["images_per_second"], timings["inner_images_per_second"]) == (20.0, 20.0)
    assert timings["share_of_peak"] is None
