"""An error that the user can mend is one line and a status; all others are tracebacks."""

import json
import subprocess
import sys
from unittest.mock import Mock

import pytest
import torch

from latentline.core.stage import run_stage

PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
sys.path.insert(0, {src!r})
from latentline.core.errors import UserError
from latentline.core.interrupt import InterruptedRunError, LostRankError
from latentline.core.stage import run_stage
def main():
    {body}
run_stage("train_x", main)
"""


@pytest.fixture
def run(workplace, root):
    def run(body: str) -> subprocess.CompletedProcess[str]:
        program = PROGRAM.format(src=str(root / "src"), body=body)
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    return run


def test_bad_input_exits_with_2_and_one_line(run, workplace):
    done = run("raise UserError('sample.steps: 0 is refused')")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: sample.steps: 0 is refused\n")
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    "body", ["raise InterruptedRunError", "raise KeyboardInterrupt", "os.kill(os.getpid(), signal.SIGINT)"]
)
def test_an_interrupted_stage_exits_with_130_and_says_how_to_continue(run, workplace, body):
    done = run(body)
    assert done.returncode == 130
    assert done.stderr == "train_x was interrupted; run the same command again to continue\n"
    assert list(workplace.iterdir()) == []


def test_a_thread_that_has_lost_another_process_ends_a_stage_that_hangs(run):
    lost = "raise LostRankError('process 0 of 2 has lost another one (why)')"
    done = run(f"import threading, time; threading.Thread(target=lambda: exec({lost!r})).start(); time.sleep(50)")
    assert done.returncode == 3
    line = "error: train_x: process 0 of 2 has lost another one (why); run the same command again to continue from"
    assert done.stderr == f"{line} the state saved last\n"


def test_a_bug_exits_with_1_and_a_traceback(run):
    done = run("1 / 0")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_finished_stage_exits_with_0_and_records_its_time(run, workplace):
    done = run("import logging; logging.getLogger('x').info('at work')")
    assert done.returncode == 0
    assert "train_x: at work" in done.stderr
    assert json.loads((workplace / "metrics" / "timing.json").read_text())["train_x"]["seconds"] >= 0


@pytest.mark.parametrize(
    "body",
    [
        "raise MemoryError",
        "raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')",
    ],
)
def test_too_little_memory_is_one_line_with_the_remedy(run, workplace, body):
    done = run(body)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: train_x: this machine has too little memory")
    assert "lower its batch_size" in line
    assert list(workplace.iterdir()) == []


def test_torchs_own_error_is_too_little_memory(workplace, capsys):
    with pytest.raises(SystemExit) as ended:
        run_stage("train_x", lambda: torch.empty(1 << 60))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: train_x: this machine has too little memory")
    assert "lower its batch_size" in line
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    ("stage", "remedy"),
    [
        ("train_feature_extractor", "raise feature_extractor.optimizer.accumulate, or lower feature_extractor.optim"),
        (
            "train_autoencoder",
            "raise autoencoder.optimizer.accumulate (on several GPUs also compute.devices), or lower",
        ),
        ("train_denoiser", "the sizes of the network, or data.image_size"),
        ("sample", "lower sample.batch_size"),
        ("evaluate", "lower evaluate.max_images"),
        ("encode_and_cache_latents", "lower the sizes of the autoencoder"),
    ],
)
@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 2 GiB",
        "MPS backend out of memory (MPS allocated: 5.00 GB, other allocations: 1.00 GB, max allowed: 6.00 GB)",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_a_stage_without_memory_names_its_own_settings(workplace, capsys, stage, remedy, message):
    with pytest.raises(SystemExit) as ended:
        run_stage(stage, Mock(side_effect=RuntimeError(message)))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {stage}: this machine has too little memory ({message}); ")
    assert remedy in line


def test_an_operation_without_a_deterministic_implementation_is_one_line(workplace, capsys):
    message = "cumsum_cuda_kernel does not have a deterministic implementation, but you set 'torch.use_...'"
    with pytest.raises(SystemExit) as ended:
        run_stage("evaluate", Mock(side_effect=RuntimeError(message)))
    assert ended.value.code == 2
    expected = "error: evaluate: cumsum_cuda_kernel does not have a deterministic implementation"
    assert capsys.readouterr().err == f"{expected}; set compute.deterministic to false\n"


@pytest.mark.parametrize(
    "write",
    [
        "from latentline.core.arrays import save_arrays; import torch; "
        "save_arrays(Path('out.safetensors'), {'a': torch.zeros(50_000)}, {})",
        "from latentline.core.files import write_json; write_json(Path('out.json'), list(range(50_000)))",
        "open('/dev/full', 'wb', 0).write(b'x')",
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing_half(run, workplace, write):
    limit = "import resource; from pathlib import Path; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))"
    done = run(f"{limit}; {write}")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: train_x: the disk is full (")
    assert line.endswith("make room and run the same command again to continue")
    assert list(workplace.iterdir()) == []


def test_an_error_that_only_speaks_of_memory_is_still_a_bug(run):
    done = run("raise ValueError('out of memory is a phrase')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
