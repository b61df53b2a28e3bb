"""Images that lack values of attributes run through all stages, and no score is made of what is missing."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from latentline.data.store import read_split
from support.checkout import STAGES
from support.small_kinds import SmallRun
from support.source_files import encoded

pytestmark = pytest.mark.usefixtures("machine")

COUNT = 48
SETTINGS = {
    "data.missing": "ignore",
    "autoencoder.epochs": 1,
    "denoiser.epochs": 1,
    "denoiser.preview.every_epochs": 0,
    "sample.count": 16,
    "sample.moment_samples": 0,
    "feature_extractor.epochs": 2,
    "feature_extractor.optimizer.accumulate": 2,
    "manipulate.strips": 1,
    "manipulate.direction": "mean_difference",
    "manipulate.renoise": 0.3,
    "manipulate.renoise_steps": 2,
    "evaluate.bayes": {"count": 3, "method": "denoising", "steps": 1, "weighting": "noise", "probes": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, write_params, machine) -> SmallRun:
    """A finished run of images that lack a fifth of their values; no test or validation image has a value of rare."""
    folder, random = tmp_path_factory.mktemp("gaps"), np.random.default_rng(0)
    number = np.arange(COUNT)
    table = pd.DataFrame(
        {
            "file": [f"{one}.png" for one in number],
            "label": np.where(number % 2 > 0, "odd", "even"),
            "smiling": np.where(number % 5 > 0, np.where(random.random(COUNT) > 0.5, "1", "0"), ""),
            "hair": np.where(number % 5 != 1, random.choice(["black", "red"], COUNT), ""),
            "age": np.where(number % 5 != 2, random.integers(20, 60, COUNT).astype(str), "NA"),
            "split": np.where(number < 32, "train", np.where(number < 38, "val", "test")),
            "rare": np.where(number < 10, (number % 2).astype(str), "?"),
        }
    )
    (folder / "pictures").mkdir()
    for name in table["file"]:
        (folder / "pictures" / name).write_bytes(encoded(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)))
    table.to_csv(folder / "labels.csv", index=False)
    (folder / "data" / "edit").mkdir(parents=True)
    finished = SmallRun(folder, list(table)[1:], SETTINGS, write_params)
    finished.run(*STAGES)
    return finished


def _nulls(value: Any, path: str) -> Iterator[str]:
    """Yield the dotted names of values that are null."""
    for name, item in value.items():
        if isinstance(item, dict):
            yield from _nulls(item, f"{path}.{name}")
        elif item is None:
            yield f"{path}.{name}"


def test_all_images_stay_and_the_missing_values_are_counted(run):
    metrics = run.metrics("data")
    assert {name: metrics[name]["count"] for name in ("train", "val", "test")} == {"train": 32, "val": 6, "test": 10}
    assert metrics["without_value"] == 0
    counts = {name: column["missing"] for name, column in metrics["columns"].items()}
    assert counts == {"label": 0, "smiling": 10, "hair": 10, "age": 10, "rare": 38}
    listed = pd.read_csv(run.folder / "fig" / "download" / "attributes.csv", index_col="name")
    assert listed["missing"].to_dict() == counts
    labels = read_split(run.folder / "data" / "prepared", "train").labels
    age = labels.column("age")
    present = age[~age.isnan()].double()
    assert len(present) < 32
    assert (labels.schema[3].mean, labels.schema[3].std) == (float(present.mean()), float(present.std(correction=0)))


def test_a_score_is_null_only_where_no_image_has_a_value_and_its_reason_is_beside_it(run):
    reason = "no image has a value"
    names = [path.stem for path in (run.folder / "metrics").glob("*.json") if path.stem != "timing"]
    nulls = {name for stem in names for name in _nulls(run.metrics(stem), stem)}
    assert nulls - {name for name in nulls if name.startswith("autoencoder.")} == {
        "evaluate.by_attribute.rare.real_test",
        "evaluate.by_attribute.rare.reconstructions",
        "feature_extractor.by_column.rare",
        "feature_extractor.by_column_of_the_best_constant.rare",
    }
    assert run.metrics("evaluate")["by_attribute"]["rare"]["not_computed"] == dict.fromkeys(
        ("real_test", "reconstructions"), reason
    )
    assert run.metrics("feature_extractor")["not_computed"] == {"rare": reason}
    assert run.metrics("latent_classifiers")["by_attribute"]["rare"] == {"not_computed": reason}
    assert run.metrics("latent_classifiers")["by_attribute"].keys() == {"smiling", "hair", "age", "rare"}
    tables = [path for path in run.folder.glob("fig/*/*.csv") if path.parent.name != "download"]
    assert not [path.name for path in tables if pd.read_csv(path).isna().any(axis=None)]


def test_every_checkpoint_latent_and_sample_is_finite_and_samples_lack_what_training_images_lack(run):
    samples = run.samples()
    assert samples["attributes"].isnan().any(dim=0).all()
    assert not samples["attributes"].isnan().all(dim=0).any()
    checkpoints = list(run.folder.glob("checkpoints/*/*.safetensors"))
    kinds = {"autoencoder", "denoiser", "feature_extractor", "latent_classifiers", "moment_maps"}
    assert {path.stem for path in checkpoints} == kinds
    assert all(tensor.isfinite().all() for path in checkpoints for tensor in load_file(path).values())


def test_edits_go_towards_attributes_that_test_images_have(run):
    names = set(run.metrics("manipulate")["target_names"])
    assert {"smiling", "age", "hair=red", "hair=black", "odd", "even"} >= names
    assert names & {"smiling", "hair=red", "hair=black"}
