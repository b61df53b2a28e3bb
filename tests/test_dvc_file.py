"""dvc.yaml lists exactly what the stages read and write."""

import ast
import itertools
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from latentline.core import paths
from latentline.core.closure import module_closure
from latentline.core.load_params import read_params
from latentline.tools.deps import NOT_LISTED, code_folders, with_code_deps
from latentline.tools.params_file import read_recipe

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
STAGES = PIPELINE["stages"]
CODE = ("src/", "stages/")
USERS_OWN = {
    ("download", "${data.path}"),
    ("download", "${data.labels}"),
    ("train_autoencoder", "${autoencoder.init_from}"),
    ("encode_and_cache_latents", "${text.path}"),
    ("train_denoiser", "${denoiser.init_from}"),
    ("sample", "${text.path}"),
    ("manipulate", "${text.path}"),
    ("sample", "${sample.prompts_file}"),
    ("manipulate", "${manipulate.files}"),
}
FIRST = "check_params"  # it loads the whole of params.yaml, so it has no section, and imports the schema
each_stage = pytest.mark.parametrize("stage", STAGES)


def _paths(entries: list) -> dict[str, dict]:
    """Return path -> its settings, from a list that holds bare paths and {path: settings}."""
    return {
        path: settings
        for entry in entries
        for path, settings in (entry.items() if isinstance(entry, dict) else [(entry, {})])
    }


def _outputs(stage: str) -> dict[str, dict]:
    return {
        path: settings
        for kind in ("outs", "metrics", "plots")
        for path, settings in _paths(STAGES[stage].get(kind, [])).items()
    }


@cache
def _closure(stage: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in module_closure(f"stages.{stage}.__main__", ROOT)} - NOT_LISTED


def _code(stage: str) -> list[str]:
    return [dep for dep in STAGES[stage]["deps"] if f"{dep}/".startswith(CODE)]


def test_every_folder_of_stages_is_a_stage_and_every_stage_runs_its_folder():
    assert set(STAGES) == {path.parent.name for path in (ROOT / "stages").glob("*/__main__.py")}
    assert all(stage["cmd"] == f"python -m stages.{name}" for name, stage in STAGES.items())


@each_stage
def test_the_code_that_a_stage_can_import_lies_in_the_folders_it_depends_on(stage):
    assert _code(stage) == code_folders(ROOT, stage), "run `make deps`"
    outside = [file for file in _closure(stage) if not file.startswith(tuple(f"{folder}/" for folder in _code(stage)))]
    assert outside == []


@each_stage
def test_a_stage_depends_on_no_folder_that_it_imports_nothing_from(stage):
    for folder in _code(stage):
        assert any(file.startswith(f"{folder}/") for file in _closure(stage)), folder


def test_dvc_yaml_stays_short():
    assert all(len(_code(stage)) <= 15 for stage in STAGES)
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 345


@each_stage
def test_a_stage_depends_on_nothing_twice_and_on_no_output_of_its_own(stage):
    deps = STAGES[stage]["deps"]
    assert len(deps) == len(set(deps))
    assert not set(deps) & _outputs(stage).keys()


@each_stage
def test_what_a_stage_reads_besides_code_some_other_stage_writes(stage):
    written = {path for other in STAGES if other != stage for path in _paths(STAGES[other].get("outs", []))}
    for dep in STAGES[stage]["deps"]:
        own = (stage, dep) in USERS_OWN
        own = own or (stage, dep) == (FIRST, "params.yaml")
        assert own or f"{dep}/".startswith(CODE) or any(f"{dep}/".startswith(f"{out}/") for out in written), dep


def test_what_users_bring_is_watched_and_its_place_is_there_in_a_fresh_clone():
    assert {(stage, dep) for stage in STAGES for dep in STAGES[stage]["deps"] if dep.startswith("$")} == USERS_OWN
    params = read_recipe("default", ROOT)
    for _, dep in USERS_OWN:
        section, name = dep.strip("${}").split(".")
        assert subprocess.run(
            ["git", "ls-files", params[section][name]], cwd=ROOT, capture_output=True, check=True
        ).stdout, dep


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {FIRST}))
def test_the_params_of_a_stage_are_the_sections_it_loads_and_the_seed_if_it_uses_it(stage):
    tree = ast.parse((ROOT / "stages" / stage / "__main__.py").read_text())
    loads = [
        (node.targets[0], node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "load"
    ]
    assert loads
    expected = ["seed"] if any(targets.elts[1].id != "_" for targets, _ in loads) else []
    expected += [call.args[0].value for _, call in loads]
    assert STAGES[stage]["params"] == expected


def test_every_section_belongs_to_one_stage_except_compute_which_belongs_to_none():
    sections = [section for stage in STAGES.values() for section in stage.get("params", []) if section != "seed"]
    assert sorted(sections) == sorted(read_params(ROOT / "params.yaml").keys() - {"seed", "compute"})


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {FIRST}))
def test_no_stage_imports_another_or_the_schema_of_the_whole_file(stage):
    assert {file.split("/")[1] for file in _closure(stage) if file.startswith("stages/")} == {stage}


def test_the_first_stage_reads_the_whole_file_and_imports_all_of_its_schema_and_nothing_else_of_the_stages():
    assert "params" not in STAGES[FIRST]
    assert "params.yaml" in STAGES[FIRST]["deps"]
    imported = {file for file in _closure(FIRST) if file.startswith("stages/") and not file.endswith("/__init__.py")}
    models = {path.relative_to(ROOT).as_posix() for path in (ROOT / "stages").glob("*/*params.py")}
    assert imported == {"stages/schema.py", f"stages/{FIRST}/__main__.py", *models}


def test_every_stage_comes_after_the_first_whose_out_stays_when_it_refuses():
    assert _after(FIRST) == STAGES.keys()
    assert all(settings == {"persist": True} for settings in _outputs(FIRST).values())


def _after(stage: str) -> set[str]:
    """Return the stage and all that run again when it does."""
    written = _paths(STAGES[stage].get("outs", []))
    readers = [
        other
        for other in STAGES
        if any(f"{dep}/".startswith(f"{out}/") for dep in STAGES[other]["deps"] for out in written)
    ]
    return {stage}.union(*map(_after, readers))


@pytest.mark.parametrize(
    ("section", "stages"),
    [("sample", {"sample", "evaluate"}), ("evaluate", {"evaluate"}), ("manipulate", {"manipulate"})],
)
def test_another_setting_of_a_section_runs_only_what_must_follow(section, stages):
    assert set().union(*(_after(stage) for stage in STAGES if section in STAGES[stage].get("params", []))) == stages


@pytest.mark.parametrize(
    ("stage", "path"),
    [
        ("train_autoencoder", "samplers/heun.py"),
        ("train_autoencoder", "denoisers/dit.py"),
        ("train_autoencoder", "feature_extractors/classifier.py"),
        ("train_denoiser", "samplers/heun.py"),
        ("train_denoiser", "feature_extractors/classifier.py"),
        ("train_latent_classifiers", "nn/unet.py"),
        ("encode_and_cache_latents", "training/loop.py"),
        ("download", "autoencoders/conv.py"),
    ],
)
def test_editing_what_a_stage_does_not_use_does_not_run_it_again(stage, path):
    assert (ROOT / "src" / "latentline" / path).is_file()
    assert not f"src/latentline/{path}".startswith(tuple(f"{folder}/" for folder in _code(stage)))


def test_no_training_depends_on_the_feature_extractor():
    for stage in (
        "train_autoencoder",
        "encode_and_cache_latents",
        "train_denoiser",
        "sample",
        "train_latent_classifiers",
    ):
        assert "checkpoints/feature_extractor" not in STAGES[stage]["deps"]
        assert "src/latentline/feature_extractors" not in STAGES[stage]["deps"]


def test_figures_and_metrics_are_kept_in_git_and_not_in_the_cache():
    for stage in STAGES:
        for path, settings in _outputs(stage).items():
            if path.startswith(("fig/", "metrics/")):
                assert settings["cache"] is False, path
        assert all(path.startswith("fig/") for path in _paths(STAGES[stage].get("plots", [])))
        assert all(path.startswith("metrics/") for path in _paths(STAGES[stage].get("metrics", [])))


def test_timings_are_metrics_of_no_stage():
    assert "metrics/timing.json" in PIPELINE["metrics"]
    assert all("metrics/timing.json" not in _outputs(stage) for stage in STAGES)


def test_no_two_stages_write_the_same_place():
    written = sorted(path for stage in STAGES for path in _outputs(stage))
    for one, other in itertools.pairwise(written):
        assert not f"{other}/".startswith(f"{one}/")


def test_every_path_of_the_library_is_written_by_one_stage():
    places = {name: value.as_posix() for name, value in vars(paths).items() if isinstance(value, Path)}
    assert len(places) >= 8
    for name, place in places.items():
        owners = [stage for stage in STAGES if any(f"{place}/".startswith(f"{out}/") for out in _outputs(stage))]
        parents = [stage for stage in STAGES if any(out.startswith(f"{place}/") for out in _outputs(stage))]
        assert len(owners) == 1 or (not owners and name in {"FIGURES", "METRICS"} and parents), name


def test_plots_and_artifacts_of_the_pipeline_are_files_that_a_stage_writes():
    written = {path for stage in STAGES for path in _outputs(stage)}
    named = [artifact["path"] for artifact in PIPELINE["artifacts"].values()]
    named += [file for plot in PIPELINE["plots"] for settings in plot.values() for file in settings["y"]]
    for path in named:
        assert any(path.startswith(f"{out}/") for out in written), path


def test_starting_a_stage_loads_no_library_that_takes_seconds_and_may_not_be_needed():
    program = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
loaded = {}
for stage in sys.argv[2:]:
    importlib.import_module(f"stages.{stage}.__main__")
    loaded[stage] = sorted({"sklearn", "torchmetrics", "torchvision", "lightning", "diffusers"} & sys.modules.keys())
print(json.dumps(loaded))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT), *STAGES], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout) == {stage: [] for stage in STAGES}


def test_other_dependencies_stay_where_they_are():
    assert with_code_deps(["data/x", "src/old", "checkpoints/y", "stages/old"], ["src/new"]) == [
        "data/x",
        "checkpoints/y",
        "src/new",
    ]
