"""Two processes, on one machine and on two, train what one process trains.

The sum of two gradients does not depend on their order. So two processes end with the bytes of one that computes each
batch in two micro-batches.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from latentline.core.arrays import load_arrays
from support.checkout import TINY, Checkout, fresh_checkout

pytestmark = pytest.mark.slow

HALVES = {"autoencoder.optimizer.accumulate": 2, "denoiser.optimizer.accumulate": 2}
WHOLE = {"autoencoder.optimizer.accumulate": 1, "denoiser.optimizer.accumulate": 1}
TRAINED = ("feature_extractor", "autoencoder", "denoiser")
FIRST, SECOND = "10.77.0.1", "10.77.0.2"
PORT = "29511"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Checkout:
    """Return a checkout that one process trained, each batch in two micro-batches."""
    checkout = fresh_checkout(root, tmp_path_factory.mktemp("ranks") / "alone")
    checkout.change(**{**TINY, **HALVES, "denoiser.epochs": 8, "compute.device": "cpu"})
    checkout.commit()
    checkout.repro("train_denoiser", "train_feature_extractor")
    return checkout


@pytest.fixture
def copy(alone: Checkout, tmp_path: Path) -> Checkout:
    """Return a copy of ``alone`` without saved states, whose batches are whole."""
    copy = alone.copy(tmp_path / "checkout")
    shutil.rmtree(copy.folder / ".state", ignore_errors=True)
    copy.change(**WHOLE)
    return copy


def _assert_same_weights(one: Checkout, other: Checkout, *names: str) -> None:
    for name in names:
        path = f"checkpoints/{name}/{name}.safetensors"
        weights, expected = (load_arrays(checkout.folder / path, "")[0] for checkout in (one, other))
        assert weights.keys() == expected.keys()
        for tensor, value in weights.items():
            assert value.equal(expected[tensor]), f"{name}: {tensor}"


def _second_process(folder: Path, running: subprocess.Popen[str]) -> int:
    """Return the id of rank 1 of the denoiser's training in ``folder``, once a state is saved."""
    while running.poll() is None:
        time.sleep(0.1)
        if not list(folder.glob(".state/train_denoiser/*/state.safetensors")):
            continue
        for process in Path("/proc").glob("[0-9]*"):
            try:
                here = (process / "cwd").resolve() == folder.resolve() and b"stages.train_denoiser" in (
                    process / "cmdline"
                ).read_bytes()
                if here and b"LOCAL_RANK=1" in (process / "environ").read_bytes():
                    return int(process.name)
            except OSError:  # it has ended
                continue
    raise AssertionError("no second process came that far")


def test_two_processes_train_what_one_trains_and_continue_after_one_was_killed(alone, copy):
    copy.change(**{"compute.devices": 2, "compute.save_every_seconds": 0.2})
    copy.repro("train_autoencoder", "train_feature_extractor", "--no-run-cache")
    command = [sys.executable, "-m", "dvc", "repro", "--no-run-cache", "train_denoiser"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(
        command, cwd=copy.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        os.kill(_second_process(copy.folder, running), signal.SIGKILL)
        _, log = running.communicate(timeout=600)
    assert running.returncode != 0
    (line,) = [line for line in log.splitlines() if line.startswith("error:")]
    assert "process 0 of 2 has lost another one" in line
    assert "run the same command again" in line
    assert not (copy.folder / "checkpoints" / "denoiser").exists()

    again = copy.run(sys.executable, "-m", "dvc", "repro", "--no-run-cache", "train_denoiser")
    assert "train_denoiser: resumed train_denoiser at step" in again.stderr
    _assert_same_weights(copy, alone, *TRAINED)
    assert len((copy.folder / "fig" / "denoiser" / "loss.csv").read_text().splitlines()) == 1 + 8


def test_two_processes_that_shard_the_weights_train_what_one_trains_and_one_continues(alone, copy):
    copy.change(**{"compute.devices": 2, "compute.strategy": "fsdp"})
    dvc = (sys.executable, "-m", "dvc", "repro", "--no-run-cache")
    log = copy.run(*dvc, "train_denoiser").stderr
    for stage in ("train_autoencoder", "train_denoiser"):
        assert f"{stage}: 2 processes share the work and the weights" in log
    for name, score in (("autoencoder", "mse"), ("denoiser", "test_loss")):
        path = f"checkpoints/{name}/{name}.safetensors"
        weights, expected = (load_arrays(checkout.folder / path, "")[0] for checkout in (copy, alone))
        assert {key: (tensor.shape, tensor.dtype) for key, tensor in weights.items()} == {
            key: (tensor.shape, tensor.dtype) for key, tensor in expected.items()
        }
        scores = [
            json.loads((checkout.folder / "metrics" / f"{name}.json").read_text())[score] for checkout in (copy, alone)
        ]
        # Networks begin with layers of zeros, where rounding matters most.
        assert scores[0] == pytest.approx(scores[1], rel=1e-2)

    copy.change(**{"compute.devices": 1, "denoiser.epochs": 9})
    assert "train_denoiser: resumed train_denoiser at step" in copy.run(*dvc, "train_denoiser").stderr


def test_two_processes_encode_draw_and_score_what_one_does(alone, tmp_path):
    stages = ("encode_and_cache_latents", "sample", "evaluate")
    alone.repro("evaluate")
    copy = alone.copy(tmp_path / "checkout")
    copy.change(**{"compute.devices": 2})
    for stage in stages:
        log = copy.run(sys.executable, "-m", "dvc", "repro", "--single-item", "--force", "--no-run-cache", stage).stderr
        assert f"{stage}: 2 processes share the work" in log
    expected, recorded = (YAML(typ="safe").load(checkout.folder / "dvc.lock")["stages"] for checkout in (alone, copy))
    for stage in stages:
        assert recorded[stage] == expected[stage]


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Connect two network namespaces, as two machines with a cable; return name -> address."""
    machines = {f"latentline-{os.getpid()}-{name}": address for name, address in (("a", FIRST), ("b", SECOND))}
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux, root and the command ip")
    names = list(machines)
    commands = [["netns", "add", name] for name in names]
    commands.append(
        ["link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1]]
    )
    for name, address in machines.items():
        commands.append(["-n", name, "address", "add", f"{address}/24", "dev", "cable"])
        commands.extend(["-n", name, "link", "set", device, "up"] for device in ("lo", "cable"))
    try:
        for command in commands:
            done = subprocess.run(["ip", *command], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"ip {' '.join(command)} is refused here: {done.stderr.strip()}")
        yield machines
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def test_two_machines_train_what_one_trains(alone, copy, hosts):
    copy.change(**{"compute.nodes": 2})
    running = []
    for number, host in enumerate(hosts):
        torchrun = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nnodes",
            "2",
            "--nproc-per-node",
            "1",
            "--node-rank",
            str(number),
        ]
        command = [*torchrun, "--master-addr", FIRST, "--master-port", PORT, "-m", "stages.train_denoiser"]
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "cable"}
        in_host = ["ip", "netns", "exec", host, *command]
        running.append(
            subprocess.Popen(
                in_host, cwd=copy.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        )
    log = [process.communicate(timeout=600)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], log
    assert "train_denoiser: epoch 8" in log[0]
    assert "train_denoiser: " not in log[1]
    _assert_same_weights(copy, alone, "denoiser")
