"""What a run is, in words, and the settings in which it differs from a recipe or from another run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentline.core.nested import by_dotted_name
from latentline.report.run import Run
from latentline.tools.params_file import read_recipe, value_text
from latentline.tools.recipe import read_settings

_ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """A setting with one value per column, and its comment in params.yaml."""

    name: str
    values: tuple[str, ...]
    comment: str


def nearest_recipe(run: Run, root: Path) -> str:
    """Return the recipe of the repository at ``root`` whose values differ in the fewest settings."""
    names = sorted(path.stem for path in (root / "recipes").glob("*.yaml"))
    settings = run.settings
    return min(names, key=lambda name: (len(_differing([recipe_settings(name, root), settings])), name != "default"))


def recipe_settings(name: str, root: Path) -> dict[str, Any]:
    """Return every setting of a recipe by its dotted name."""
    return by_dotted_name(read_recipe(name, root))


def differences(columns: list[dict[str, Any]], settings_text: str) -> list[Difference]:
    """Return the settings that differ between columns; ``settings_text`` is the params.yaml with their comments."""
    comments = {line.name: line.comment for line in read_settings(settings_text, "params.yaml", strict=False)[1]}
    return [
        Difference(name, tuple(_text(column.get(name, _ABSENT)) for column in columns), comments.get(name, ""))
        for name in _differing(columns)
    ]


def description(run: Run) -> dict[str, str]:
    """Return what the run is, heading by heading: data, networks, sampling."""
    settings, metrics, card = run.settings, run.metrics, run.data_card
    words = {"Data": _data(settings, metrics.get("data", {}))}
    named = {"Licence of the data": "licence", "Source of the data": "source", "Citation": "citation"}
    words |= {heading: str(card[key]) for heading, key in named.items() if card.get(key)}
    autoencoder, denoiser = metrics.get("autoencoder", {}), metrics.get("denoiser", {})
    size = autoencoder.get("latent_size")
    words["Autoencoder"] = _joined(
        settings["autoencoder.name"],
        _parameters(autoencoder),
        size and f"{size:,} numbers per image",
        f"{settings['autoencoder.epochs']} epochs",
    )
    words["Denoiser"] = _joined(
        settings["denoiser.name"],
        _parameters(denoiser),
        f"{settings['denoiser.epochs']} epochs",
        f"path {settings['denoiser.process.path']}",
        f"prediction {settings['denoiser.process.prediction']}",
        f"condition {_text(settings['denoiser.condition'])}",
    )
    evaluations = metrics.get("sample", {}).get("network_evaluations")
    words["Sampling"] = _joined(
        f"{settings['sample.sampler']} with {settings['sample.steps']} steps",
        f"guidance scale {settings['sample.guidance_scale']}",
        evaluations and f"{evaluations} network evaluations per image",
        f"{settings['sample.count']:,} images",
    )
    return words | {"Seed": str(settings["seed"])}


def _data(settings: dict[str, Any], metrics: dict[str, Any]) -> str:
    splits = [f"{metrics[name]['count']:,} {name}" for name in ("train", "val", "test") if name in metrics]
    size = [str(metrics[name]) for name in ("height", "width", "channels") if name in metrics]
    classes = metrics.get("classes")
    return _joined(
        settings["data.name"],
        splits and f"{', '.join(splits)} images",
        "x".join(size),
        classes and f"{classes} classes",
    )


def _parameters(metrics: dict[str, Any]) -> str:
    return f"{metrics['parameters']:,} parameters" if metrics.get("parameters") else ""


def _joined(*parts: Any) -> str:
    return "; ".join(str(part) for part in parts if part)


def _differing(columns: list[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for column in columns for name in column)
    return [
        name for name in names if any(column.get(name, _ABSENT) != columns[0].get(name, _ABSENT) for column in columns)
    ]


def _text(value: Any) -> str:
    return "absent" if value is _ABSENT else value_text(value)
