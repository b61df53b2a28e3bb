"""dvc.yaml says exactly what the stages read and write."""

import ast
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from latentline.devtools.deps import import_closure, script_of, with_code_deps
from latentline.params.load import read_params
from latentline.pipeline import paths
from latentline.tools.params_file import read_recipe

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
STAGES = PIPELINE["stages"]
CODE = ("src/", "stages/")
USERS_OWN = {
    ("download", "${data.path}"),
    ("download", "${data.labels}"),
    ("train_autoencoder", "${autoencoder.init_from}"),
    ("train_denoiser", "${denoiser.init_from}"),
    ("manipulate", "${manipulate.files}"),
}
each_stage = pytest.mark.parametrize("stage", STAGES)


def _paths(entries: list) -> dict[str, dict]:
    """Path -> its settings, of a list that holds bare paths and {path: settings}."""
    return {path: settings for entry in entries for path, settings in (entry.items() if isinstance(entry, dict) else [(entry, {})])}


def _outputs(stage: str) -> dict[str, dict]:
    return {path: settings for kind in ("outs", "metrics", "plots") for path, settings in _paths(STAGES[stage].get(kind, [])).items()}


def _closure(stage: str) -> list[str]:
    return import_closure(ROOT, script_of(STAGES[stage]["cmd"]))


def test_every_script_is_a_stage_and_every_stage_runs_its_script():
    assert set(STAGES) == {path.stem for path in (ROOT / "stages").glob("*.py")} - {"checkout"}
    assert all(stage["cmd"] == f"python stages/{name}.py" for name, stage in STAGES.items())


@each_stage
def test_a_stage_depends_on_exactly_the_code_it_can_import(stage):
    assert [dep for dep in STAGES[stage]["deps"] if dep.startswith(CODE)] == _closure(stage), "run `make deps`"


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
        assert own or dep.startswith(CODE) or any(f"{dep}/".startswith(f"{out}/") for out in written), dep


def test_what_users_bring_is_watched_and_its_place_is_there_in_a_fresh_clone():
    assert {(stage, dep) for stage in STAGES for dep in STAGES[stage]["deps"] if dep.startswith("$")} == USERS_OWN
    knobs = read_recipe("default", ROOT)
    for _, dep in USERS_OWN:
        section, knob = dep.strip("${}").split(".")
        assert subprocess.run(["git", "ls-files", knobs[section][knob]], cwd=ROOT, capture_output=True, check=True).stdout, dep


@each_stage
def test_the_params_of_a_stage_are_the_section_it_loads_and_the_seed_if_it_uses_it(stage):
    tree = ast.parse((ROOT / "src" / "latentline" / "pipeline" / f"{stage}.py").read_text())
    loads = [
        (node.targets[0], node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "load"
    ]
    ((targets, call),) = loads
    expected = [call.args[0].value]
    if targets.elts[1].id != "_":
        expected.insert(0, "seed")
    assert STAGES[stage]["params"] == expected


def test_every_section_belongs_to_one_stage_except_compute_which_belongs_to_none():
    sections = [section for stage in STAGES.values() for section in stage["params"] if section != "seed"]
    assert sorted(sections) == sorted(read_params(ROOT / "params.yaml").keys() - {"seed", "compute"})


@each_stage
def test_no_stage_can_see_the_model_of_another_stages_section(stage):
    (section,) = (name for name in STAGES[stage]["params"] if name != "seed")
    parts = {"autoencoder": {"adversarial", "diffae"}}
    allowed = {"__init__", "base", "load", "compute", "optimizer", section} | parts.get(section, set())
    seen = {Path(path).stem for path in _closure(stage) if path.startswith("src/latentline/params/")}
    assert seen <= allowed


def _after(stage: str) -> set[str]:
    """The stage and all that run again when it does."""
    written = _paths(STAGES[stage].get("outs", []))
    readers = [other for other in STAGES if any(f"{dep}/".startswith(f"{out}/") for dep in STAGES[other]["deps"] for out in written)]
    return {stage}.union(*map(_after, readers))


@pytest.mark.parametrize(
    ("section", "stages"),
    [("sample", {"sample", "evaluate"}), ("evaluate", {"evaluate"}), ("manipulate", {"manipulate"})],
)
def test_another_knob_of_a_section_runs_only_what_must_follow(section, stages):
    assert set().union(*(_after(stage) for stage in STAGES if section in STAGES[stage]["params"])) == stages


@pytest.mark.parametrize(
    ("stage", "path"),
    [
        ("train_autoencoder", "diffusion/samplers/heun.py"),
        ("train_autoencoder", "models/dit.py"),
        ("train_autoencoder", "models/classifier.py"),
        ("train_denoiser", "diffusion/samplers/heun.py"),
        ("train_denoiser", "models/classifier.py"),
        ("train_latent_classifiers", "models/unet.py"),
        ("encode_and_cache_latents", "training/loop.py"),
        ("download", "models/conv_coder.py"),
    ],
)
def test_editing_what_a_stage_does_not_use_does_not_run_it_again(stage, path):
    assert (ROOT / "src" / "latentline" / path).is_file()
    assert f"src/latentline/{path}" not in STAGES[stage]["deps"]


def test_the_judge_is_nobodys_teacher():
    for stage in ("train_autoencoder", "encode_and_cache_latents", "train_denoiser", "sample", "train_latent_classifiers"):
        assert "checkpoints/feature_extractor" not in STAGES[stage]["deps"]
        assert "src/latentline/pipeline/judge.py" not in STAGES[stage]["deps"]


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
    importlib.import_module(f"latentline.pipeline.{stage}")
    loaded[stage] = sorted({"sklearn", "torchmetrics", "torchvision", "lightning", "diffusers"} & sys.modules.keys())
print(json.dumps(loaded))
"""
    done = subprocess.run([sys.executable, "-c", program, str(ROOT / "src"), *STAGES], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == {stage: [] for stage in STAGES}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small repository with every kind of import."""
    files = {
        "stages/run.py": "import helper\nfrom pkg.a import thing\n",
        "stages/helper.py": "import json\n",
        "stages/other.py": "",
        "src/pkg/__init__.py": "",
        "src/pkg/a.py": "from pkg.sub import b\nimport torch\n\ndef thing():\n    import pkg.late\n",
        "src/pkg/sub/__init__.py": "from pkg.c import name\n",
        "src/pkg/sub/b.py": "import pkg.a\n",
        "src/pkg/sub/unused.py": "",
        "src/pkg/c.py": "name = 1\n",
        "src/pkg/late.py": "",
        "src/pkg/unused.py": "import pkg.sub.unused\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_closure_follows_packages_submodules_cycles_and_late_imports_and_nothing_else(tree):
    assert import_closure(tree, "stages/run.py") == [
        "src/pkg/__init__.py",
        "src/pkg/a.py",
        "src/pkg/c.py",
        "src/pkg/late.py",
        "src/pkg/sub/__init__.py",
        "src/pkg/sub/b.py",
        "stages/helper.py",
        "stages/run.py",
    ]
    assert import_closure(tree, "stages/other.py") == ["stages/other.py"]


def test_a_relative_import_is_refused_since_the_closure_would_miss_it(tree):
    (tree / "src" / "pkg" / "c.py").write_text("from . import unused\n")
    with pytest.raises(ValueError, match="relative import"):
        import_closure(tree, "stages/run.py")


def test_other_dependencies_stay_where_they_are():
    assert with_code_deps(["data/x", "src/old.py", "checkpoints/y", "stages/old.py"], ["src/new.py"]) == ["data/x", "checkpoints/y", "src/new.py"]
