"""The report as one HTML file: everything is inside, and the page's own policy forbids requests."""

import base64
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from latentline.report.curves import HEIGHT, WIDTH, charts_of
from latentline.report.run import IMAGES, Run
from latentline.report.scores import Score, all_numbers, headline_scores
from latentline.report.settings import description, differences, nearest_recipe, recipe_settings

_ORDER = ("manipulate", "autoencoder", "denoiser", "latents", "latent_classifiers", "evaluate")
_PACKAGES = ("latentline", "torch", "numpy", "scikit-learn", "dvc")


@dataclass(frozen=True)
class ReportPicture:
    """A figure of every run as a data URI, None where a run lacks it."""

    path: str
    title: str
    sources: tuple[str | None, ...]

    @property
    def shown(self) -> tuple[str | None, ...]:
        """The sources, one where all are equal."""
        return self.sources[:1] if len(set(self.sources)) == 1 else self.sources


def report_page(runs: list[Run], root: Path) -> str:
    """Return the page of one run, or of a run and the one to compare it with; ``root`` has the recipes."""
    run = runs[0]
    recipe = nearest_recipe(run, root)
    settings = [each.settings for each in runs]
    pictures = _by_stage(runs)
    tables = sorted({path for each in runs for path in each.below("fig", ".csv")})
    return (
        templates(html=True)
        .get_template("page.html")
        .render(
            runs=runs,
            run=run,
            description=description(run),
            scores=headline_scores(runs),
            recipe=recipe,
            from_recipe=differences([recipe_settings(recipe, root), settings[0]], run.settings_text),
            from_base=differences(settings, run.settings_text) if len(runs) > 1 else [],
            samples=pictures.pop("sample", []),
            pictures=pictures,
            charts=[chart for path in tables for chart in charts_of(runs, path)],
            size=(WIDTH, HEIGHT),
            timing=_timing(runs),
            numbers={
                file: all_numbers(runs, file) for file in dict.fromkeys(file for each in runs for file in each.metrics)
            },
            versions=versions(),
        )
    )


def templates(html: bool) -> Environment:
    """Return the templates beside this file. With ``html`` every value is escaped."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader,
        autoescape=html,  # noqa: S701 - Markdown is the other case
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number_text, "change": _change}
    return environment


def versions() -> dict[str, str]:
    """Return the version of Python and of the packages that compute."""
    installed = {}
    for name in _PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # sources on the path that were not installed
            continue
    return {"Python": platform.python_version(), **installed}


def number_text(value: Any) -> str:
    """Return a value of a metrics file for readers: four digits, thousands with commas."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(number_text, value)) if isinstance(value, list) else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _change(score: Score) -> str:
    """Return by how much the first run's value differs from the second's."""
    new, old = score.values
    if new is None or old is None or new == old:
        return "same" if new == old else "-"
    return f"{new - old:+.3g}"


def _by_stage(runs: list[Run]) -> dict[str, list[ReportPicture]]:
    """Return the figures by their folder in fig/."""
    paths = sorted({path for run in runs for path in run.below("fig", *IMAGES)})
    stages = sorted({Path(path).parent.name for path in paths}, key=lambda name: (_place(name), name))
    return {
        stage.replace("_", " "): [
            ReportPicture(path, Path(path).stem.replace("_", " "), tuple(_data_uri(run, path) for run in runs))
            for path in paths
            if Path(path).parent.name == stage
        ]
        for stage in stages
    }


def _place(stage: str) -> int:
    return _ORDER.index(stage) if stage in _ORDER else len(_ORDER)


def _data_uri(run: Run, path: str) -> str | None:
    if path not in run.files:
        return None
    return f"data:{IMAGES[Path(path).suffix]};base64,{base64.b64encode(run.files[path]).decode()}"


def _timing(runs: list[Run]) -> dict[str, tuple[float | None, ...]]:
    """Return the seconds of each stage in every run, None where it has none; the longest first."""
    seconds = [dict(_seconds(run)) for run in runs]
    longest = {stage: max(each.get(stage, 0.0) for each in seconds) for run in seconds for stage in run}
    return {
        stage: tuple(each.get(stage) for each in seconds) for stage in sorted(longest, key=longest.__getitem__)[::-1]
    }


def _seconds(run: Run) -> Iterator[tuple[str, float]]:
    for stage, values in run.metrics.get("timing", {}).items():
        if values.get("seconds") is not None:
            yield stage, values["seconds"]
