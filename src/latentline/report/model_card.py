"""Write a model card, the README.md of a folder of weights: ``make model-card DIR=exported``."""

import sys
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from latentline.core.errors import UserError
from latentline.core.files import replaced_file
from latentline.report.page import templates, versions
from latentline.report.run import Run, read_workspace
from latentline.report.scores import headline_scores
from latentline.report.settings import description, differences, nearest_recipe, recipe_settings

FILE = "README.md"
_LICENCES = {"MIT": "mit", "CC BY 4.0": "cc-by-4.0", "CC BY-SA 3.0": "cc-by-sa-3.0"}
"""A data set's licence -> its name on a model hub, for those licences under which the weights may be shared alike."""


def model_card(run: Run, root: Path, *, pipeline: bool = False) -> ModelCard:
    """Return the card of a run; ``root`` has the recipes, and ``pipeline`` says whether diffusers loads the weights.

    The card's licence is that of the data where it allows sharing, else ``other`` with the publisher's words. The
    licence of the code says nothing about the weights.
    """
    settings, metrics = run.settings, run.metrics
    data_set, licence = settings["data.name"], str(run.data_card.get("licence", ""))
    scores = headline_scores([run])
    recipe = nearest_recipe(run, root)
    name = f"latentline-{data_set}-{settings['autoencoder.name']}-{settings['denoiser.name']}".replace("_", "-")
    standard = licence in _LICENCES
    card_data = ModelCardData(
        license=_LICENCES.get(licence, "other"),
        license_name=None if standard else (licence or "see the publisher of the data"),
        library_name="diffusers" if pipeline else "latentline",
        pipeline_tag="unconditional-image-generation",
        tags=["latent-diffusion", settings["autoencoder.name"], settings["denoiser.name"]],
        datasets=None if data_set in {"image_folder", "array"} else [data_set],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="unconditional-image-generation",
                dataset_type=data_set,
                dataset_name=data_set,
                metric_type=score.key,
                metric_name=score.text,
                metric_value=score.values[0],
            )
            for score in scores
        ],
    )
    text = (
        templates(html=False)
        .get_template("model_card.md")
        .render(
            card_data=card_data.to_yaml(),
            name=name,
            pipeline=pipeline,
            what=f"{settings['denoiser.name']} denoiser, {settings['autoencoder.name']} autoencoder",
            description=description(run),
            classes=metrics.get("data", {}).get("classes") if settings["denoiser.condition"] in {"all", "class"} else 0,
            licence=licence or "see their publisher",
            scores=scores,
            recipe=recipe,
            settings=differences([recipe_settings(recipe, root), settings], run.settings_text),
            revision=run.revision,
            changed="params.yaml" in run.changed,
            versions=versions(),
        )
    )
    return ModelCard(text)


def write_model_card(folder: Path) -> Path:
    """Write ``folder``/README.md of the run in the current folder and return its path.

    Raises:
        UserError: there is no finished run here, or the folder holds a README.md that is no model card.
    """
    pipeline = (folder / "model_index.json").exists()
    card, path = model_card(read_workspace(), Path(), pipeline=pipeline), folder / FILE
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith("---\n"):
        raise UserError(f"DIR ({folder}) must not hold a README.md of another kind; take the folder of the weights")
    try:
        with replaced_file(path) as temporary:
            temporary.write_text(str(card), encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"DIR ({folder}) must be a folder to write ({error.strerror}); take another") from None
    return path


def main() -> int:
    """Write the card for the argument DIR and return the exit status."""
    try:
        print(f"wrote {write_model_card(Path(sys.argv[1]))}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
