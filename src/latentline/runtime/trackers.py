"""Experiment trackers: TensorBoard, Weights & Biases, MLflow, DVCLive. None of them changes or stops what is computed.

They write below tracking/ (ignored by git; under $DVC_ROOT when DVC sets it), unless their own environment variables
name another place.
"""

import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from latentline.core.errors import UserError
from latentline.core.nested import by_dotted_name

_PROJECT = "latentline"

log = logging.getLogger(__name__)


class Tracker(ABC):
    """One run of one tracker. A training that continues after a kill is a new run, which begins at a later epoch.

    Args:
        folder: tracking/, absolute.
        stage: name of the run.
        settings: settings of the stage, by dotted name.
    """

    @abstractmethod
    def __init__(self, folder: Path, stage: str, settings: dict[str, Any]) -> None: ...

    @abstractmethod
    def log(self, row: dict[str, float], epoch: int) -> None:
        """Log the values of an epoch, counted from 1."""

    @abstractmethod
    def close(self) -> None:
        """End the run."""


class TensorBoard(Tracker):
    """``tensorboard --logdir tracking/tensorboard``."""

    def __init__(self, folder: Path, stage: str, settings: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(folder / "tensorboard" / f"{stage}-{time.strftime('%Y%m%d-%H%M%S')}")
        self._writer.add_text("settings", "  \n".join(f"{name}: {value}" for name, value in settings.items()))

    def log(self, row: dict[str, float], epoch: int) -> None:
        """See :meth:`Tracker.log`."""
        for name, value in row.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """See :meth:`Tracker.close`."""
        self._writer.close()


class WeightsAndBiases(Tracker):
    """Online after ``wandb login``; ``WANDB_MODE=offline`` keeps the run in tracking/wandb."""

    def __init__(self, folder: Path, stage: str, settings: dict[str, Any]) -> None:
        import wandb

        project = os.environ.get("WANDB_PROJECT", _PROJECT)
        self._run = wandb.init(project=project, name=stage, config=settings, dir=folder, reinit="finish_previous")

    def log(self, row: dict[str, float], epoch: int) -> None:
        """See :meth:`Tracker.log`."""
        self._run.log(row, step=epoch, commit=True)

    def close(self) -> None:
        """See :meth:`Tracker.close`."""
        self._run.finish()


class MLflow(Tracker):
    """``mlflow ui --backend-store-uri sqlite:///tracking/mlflow.db``, or the server that MLFLOW_TRACKING_URI names."""

    def __init__(self, folder: Path, stage: str, settings: dict[str, Any]) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}")
        experiment = self._client.get_experiment_by_name(_PROJECT)
        identity = experiment.experiment_id if experiment else self._client.create_experiment(_PROJECT)
        self._run = self._client.create_run(identity, run_name=stage).info.run_id
        for name, value in settings.items():
            self._client.log_param(self._run, name, value)

    def log(self, row: dict[str, float], epoch: int) -> None:
        """See :meth:`Tracker.log`."""
        for name, value in row.items():
            self._client.log_metric(self._run, name, value, step=epoch)

    def close(self) -> None:
        """See :meth:`Tracker.close`."""
        self._client.set_terminated(self._run)


class DVCLive(Tracker):
    """tracking/dvclive/STAGE: the last run of each stage, as TSV and JSON, apart from DVC's own experiments."""

    def __init__(self, folder: Path, stage: str, settings: dict[str, Any]) -> None:
        from dvclive import Live

        self._live = Live(str(folder / "dvclive" / stage), save_dvc_exp=False, dvcyaml=None)
        self._live.log_params(settings)

    def log(self, row: dict[str, float], epoch: int) -> None:
        """See :meth:`Tracker.log`."""
        self._live.step = epoch
        for name, value in row.items():
            self._live.log_metric(name, value)
        self._live.make_summary()

    def close(self) -> None:
        """See :meth:`Tracker.close`."""
        self._live.end()


_KINDS: dict[str, type[Tracker]] = {  # each name is also the name of the Python package
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "dvclive": DVCLive,
}


class Trackers:
    """The trackers of one training: ``with trackers: trackers.log(row)``.

    Args:
        names: ``compute.trackers``.
        stage: DVC stage.
        settings: the section of params.yaml.

    Raises:
        UserError: a tracker's package is not installed.
    """

    def __init__(self, names: Sequence[str] = (), stage: str = "", settings: dict[str, Any] | None = None) -> None:
        for name in names:
            if find_spec(name) is None:
                raise UserError(
                    f"compute.trackers ({name}) must be an installed package; "
                    "`.venv/bin/pip install -e '.[trackers]'`, or remove it"
                )
        self._names, self._stage, self._settings = names, stage, by_dotted_name(settings or {})
        self._running: dict[str, Tracker] = {}

    def __enter__(self) -> Self:
        """Start a run of each tracker. Raises UserError when one fails to start."""
        folder = Path(os.environ.get("DVC_ROOT", ".")).resolve() / "tracking"
        for name in self._names:
            folder.mkdir(exist_ok=True)
            try:
                self._running[name] = _KINDS[name](folder, self._stage, self._settings)
            except Exception as error:  # whatever a tracker may raise
                reason = " ".join(str(error).split())
                raise UserError(
                    f"compute.trackers ({name}) did not start ({reason}); set it up, or remove it from the list"
                ) from None
        return self

    def log(self, row: dict[str, float]) -> None:
        """Log the row of an epoch with each tracker."""
        values = {name: value for name, value in row.items() if name != "epoch"}
        self._each(lambda tracker: tracker.log(values, int(row["epoch"])))

    def __exit__(self, *_: object) -> None:
        """End the runs."""
        self._each(lambda tracker: tracker.close())

    def _each(self, act: Callable[[Tracker], None]) -> None:
        """Call ``act`` on each tracker, and drop one that fails with a warning: its server must not end a training."""
        for name, tracker in list(self._running.items()):
            try:
                act(tracker)
            except Exception as error:  # whatever a tracker may raise
                log.warning("%s failed and gets no more rows: %s", name, error)
                del self._running[name]
