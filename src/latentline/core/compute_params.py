"""Section ``compute``: where it runs. No stage's dependency; enters no checkpoint."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.core.params import Section


class ComputeParams(Section):
    """Knobs that do not change what is computed, but for the last digits that depend on ``threads`` and ``device``."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    """``auto`` = cuda, else mps, else cpu."""
    threads: Annotated[int, Field(ge=1, le=1024)]
    """CPU threads; a fixed number, since the last digits depend on it."""
    workers: Annotated[int, Field(ge=0, le=1024)]
    """Processes that prepare images."""
    devices: Annotated[int, Field(ge=1, le=1024)]
    """Processes on each machine that share the work of training: one a GPU, or any number on the CPU, each with ``threads`` threads."""
    nodes: Annotated[int, Field(ge=1, le=65536)]
    """Machines that do; each needs to be told of the first, see docs/scaling.md."""
    strategy: Literal["ddp", "fsdp"]
    """What each of several processes holds while the autoencoder or the denoiser trains: ``ddp`` all weights, ``fsdp`` its part of them."""
    save_every_seconds: Annotated[float, Field(gt=0)]
    """Seconds between two saves of a running stage; at most so much work is lost when it is killed."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "dvclive"]]
    """Who else is told each epoch's numbers, beside fig/ and metrics/."""
