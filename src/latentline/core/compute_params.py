"""Section ``compute``: where the stages run. No stage depends on it; it enters no checkpoint."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.core.params import Section


class ComputeParams(Section):
    """Settings that change nothing of a result, or its last digits alone.

    The latter are ``device``, ``threads``, ``deterministic`` and ``compile``.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto (cuda, else mps, else cpu) | cpu | cuda | mps."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 2
    """CPU threads per process. The last digits depend on this number, so it is never taken from the machine."""
    compile: bool = False
    """false | true (torch.compile makes one graph of each network that trains or samples); see docs/gpu.md."""
    deterministic: bool = True
    """true: a GPU repeats its bytes, attention included. false: it takes its fastest algorithms. The CPU always repeats
    them; see docs/reliability.md."""
    devices: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes per machine that share a training: one per GPU, or any number on the CPU; see docs/scaling.md."""
    nodes: Annotated[int, Field(ge=1, le=65536)] = 1
    """Machines that share a training; each needs the address of the first, see docs/scaling.md."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """ddp (each process holds all weights of the training) | fsdp (each process holds its shard); see
    docs/scaling.md."""
    gradient_checkpointing: bool = False
    """Trainings keep only the inputs of blocks, and compute the rest again in the backward pass: less memory, about a
    third more work, the same bytes."""
    workers: Annotated[int, Field(ge=0, le=1024)] = 2
    """Processes that prepare images."""
    save_every_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between two saves of a running stage. A training waits longer where a save costs more than 2 % of it. A
    killed stage loses at most the work since the last save."""
    keep_states_gib: Annotated[float, Field(ge=0)] = 2.0
    """GiB for the last states of a stage's ended trainings, from which more epochs or other figures start. The newest
    ones always stay."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "dvclive"]] = Field(default=[])
    """tensorboard, wandb, mlflow, dvclive: trackers that also get each epoch's metrics; see docs/library.md."""

    @property
    def keeps_activations(self) -> bool:
        """Whether a training keeps all activations of a forward pass until its backward pass."""
        return not (self.compile or self.gradient_checkpointing)
