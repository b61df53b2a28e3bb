"""Bad settings: each is refused in one line with name, value, expectation and remedy, before anything is written."""

import copy
import os
import re
import reprlib
import subprocess
import sys
from typing import Any

import pytest

from latentline.core.errors import UserError
from latentline.core.load_params import read_params, validate
from latentline.core.stage import run_stage
from stages.download import __main__ as download
from stages.encode_and_cache_latents import __main__ as encode_and_cache_latents
from stages.evaluate import __main__ as evaluate
from stages.manipulate import __main__ as manipulate
from stages.sample import __main__ as sample
from stages.train_autoencoder import __main__ as train_autoencoder
from stages.train_denoiser import __main__ as train_denoiser
from stages.train_feature_extractor import __main__ as train_feature_extractor
from stages.train_latent_classifiers import __main__ as train_latent_classifiers
from support.params import set_params

NAN, INF = float("nan"), float("inf")
BAD_VALUES: list[tuple[str, Any]] = [
    # wrong type
    ("seed", "0"),
    ("seed", 0.5),
    ("seed", True),
    ("seed", None),
    ("data", 3),
    ("data", []),
    ("data.name", 1),
    ("data.root", 5),
    ("data.limit", "100"),
    ("data.classes", "Bag"),
    ("data.classes", [1]),
    ("data.classes", []),
    ("data.limit", 1.5),
    ("autoencoder.epochs", "2"),
    ("autoencoder.epochs", 2.0),
    ("autoencoder.epochs", True),
    ("autoencoder.encoder_channels", 32),
    ("autoencoder.kl_weight", "1e-3"),
    ("autoencoder.optimizer", None),
    ("autoencoder.adversarial", None),
    ("autoencoder.report_lpips", 1),
    ("autoencoder.adversarial.start_step", 0.5),
    ("denoiser.optimizer.lr", "2e-3"),
    ("denoiser.optimizer.lr", True),
    ("denoiser.optimizer.lr", None),
    ("denoiser.attention_levels", 1),
    ("denoiser.process", "flow"),
    ("manipulate.strengths", "all"),
    ("evaluate.neighbours", [5]),
    ("compute.threads", "2"),
    ("compute.threads", True),
    ("evaluate.bayes", "off"),
    ("evaluate.classification_accuracy_score", 1),
    ("autoencoder.optimizer.milestones", 2),
    ("denoiser.ema_decays", 0.9),
    # a number outside its range
    ("seed", -1),
    ("seed", 2**32),
    ("data.limit", 0),
    ("data.limit", -5),
    ("data.splits.val", 0.0),
    ("data.splits.test", 0.5),
    ("data.timeout_seconds", 0.0),
    ("data.timeout_seconds", 1e9),
    ("autoencoder.epochs", 0),
    ("autoencoder.latent_channels", 0),
    ("autoencoder.latent_dim", 0),
    ("autoencoder.groups", 0),
    ("autoencoder.attention_heads", 0),
    ("autoencoder.kl_warmup_steps", -1),
    ("autoencoder.ema_decay", 1.0),
    ("autoencoder.figures.height", 1),
    ("autoencoder.figures.scale", 0),
    ("latents.scaling", 0.0),
    ("latents.scaling", -0.18),
    ("autoencoder.kl_weight", -1e-3),
    ("autoencoder.perceptual_weight", -0.1),
    ("autoencoder.adversarial.weight", -1.0),
    ("autoencoder.adversarial.start_step", -1),
    ("autoencoder.adversarial.adaptive_max", 0.0),
    ("autoencoder.adversarial.channels", 12),
    ("autoencoder.adversarial.layers", 0),
    ("autoencoder.adversarial.lr", 0.0),
    ("autoencoder.optimizer.batch_size", 0),
    ("autoencoder.optimizer.lr", 0.0),
    ("autoencoder.optimizer.lr", -1e-3),
    ("autoencoder.optimizer.weight_decay", -0.1),
    ("autoencoder.optimizer.warmup_steps", -1),
    ("autoencoder.optimizer.decay_fraction", 1.0),
    ("autoencoder.optimizer.clip_norm", 0.0),
    ("denoiser.blocks", 0),
    ("denoiser.label_dropout", 1.0),
    ("denoiser.preview.every_epochs", -1),
    ("denoiser.preview.guidance_scale", -1.0),
    ("sample.steps", 0),
    ("sample.time_shift", 0.0),
    ("sample.guidance_scale", -0.1),
    ("sample.count", 0),
    ("sample.batch_size", -1),
    ("feature_extractor.channels", 12),
    ("feature_extractor.dropout", -0.1),
    ("latent_classifiers.inverse_regularization", 0.0),
    ("manipulate.strengths", [1.0]),
    ("manipulate.count", 0),
    ("manipulate.targets", 0),
    ("evaluate.pair_count", 0),
    ("compute.threads", 0),
    ("compute.workers", -1),
    ("compute.save_every_seconds", 0.0),
    ("denoiser.optimizer.milestones", [0, 2]),
    ("denoiser.optimizer.milestones", [3, 2]),
    ("feature_extractor.optimizer.milestones", [2, 2]),
    ("denoiser.optimizer.gamma", 0.0),
    ("denoiser.optimizer.gamma", 1.1),
    ("feature_extractor.optimizer.accumulate", 0),
    ("denoiser.optimizer.accumulate", 65),  # of a batch of 64
    ("denoiser.ema_decays", [0.9, 1.0]),
    ("denoiser.ema_decays", []),
    ("denoiser.ema_decays", [0.9, 0.99, 0.9]),
    ("evaluate.bayes.count", -1),
    ("evaluate.bayes.steps", 0),
    ("evaluate.bayes.probes", 0),
    ("latent_classifiers.inverse_regularization", "null"),
    ("manipulate.images", []),
    ("manipulate.images", [-1]),
    ("manipulate.source_class", 3),
    ("manipulate.target_names", None),
    ("manipulate.files", None),
    ("manipulate.files", ""),
    ("manipulate.renoise", 1.0),
    ("manipulate.renoise", -0.1),
    ("manipulate.renoise_steps", 0),
    ("manipulate.renoise_guidance_scale", -1.0),
    ("autoencoder.figures.preview_every_epochs", -1),
    ("autoencoder.diffae.embedding_dim", 0),
    ("autoencoder.diffae.encoder_channels", [12]),
    ("autoencoder.diffae.pretrain_epochs", 0),
    ("autoencoder.diffae.patch_size", 0),
    ("autoencoder.diffae.condition_width", 20),
    ("autoencoder.diffae.sample_timesteps", 0),
    # not a number
    ("autoencoder.kl_weight", NAN),
    ("autoencoder.kl_weight", INF),
    ("denoiser.optimizer.lr", NAN),
    ("denoiser.optimizer.lr", INF),
    ("sample.guidance_scale", NAN),
    ("sample.time_shift", INF),
    ("manipulate.strengths", [0.0, NAN]),
    ("manipulate.strengths", [-INF, 0.0]),
    ("compute.save_every_seconds", NAN),
    # no such choice
    ("data.name", "mnist1"),
    ("autoencoder.name", "VAE"),
    ("autoencoder.adversarial.loss", "wasserstein"),
    ("autoencoder.network", "unet"),
    ("autoencoder.reconstruction", "huber"),
    ("latents.posterior", "mode"),
    ("latents.scaling", "fixed"),
    ("latents.dtype", "int8"),
    ("denoiser.name", ""),
    ("denoiser.process.path", "vp"),
    ("denoiser.process.time_sampling", "normal"),
    ("sample.sampler", "Heun"),
    ("feature_extractor.name", "inception"),
    ("compute.device", "gpu"),
    ("compute.strategy", "zero"),
    ("autoencoder.optimizer.schedule", "linear"),
    ("evaluate.bayes.method", "ode"),
    ("evaluate.bayes.weighting", "uniform"),
    ("latent_classifiers.features", "mean"),
    ("latent_classifiers.logistic", "ovr"),
    ("manipulate.direction", "random"),
    ("autoencoder.diffae.inner", "diffae"),
    ("autoencoder.diffae.encoder_training", "frozen"),
    # each right, but not together
    ("autoencoder.encoder_blocks", [1]),
    ("autoencoder.decoder_channels", [32, 64, 64]),
    ("autoencoder.decoder_blocks", []),
    ("autoencoder.encoder_channels", []),
    ("autoencoder.encoder_channels", [32, 20]),
    ("autoencoder.groups", 16 * 3),
    ("autoencoder.attention_heads", 3),
    ("autoencoder.attention_levels", [2]),
    ("autoencoder.freeze_encoder", True),
    ("autoencoder.init_from", ""),
    ("autoencoder.init_from", None),
    ("autoencoder.init_from_sha256", "0" * 63),
    ("autoencoder.init_from_sha256", "0" * 64),
    ("denoiser.init_from", None),
    ("denoiser.init_from_sha256", "G" * 64),
    ("denoiser.init_from_sha256", "0" * 64),
    ("denoiser.epochs", 0),
    ("denoiser.channels", [4]),
    ("denoiser.attention_levels", [2]),
    ("denoiser.attention_levels", [-1]),
    ("manipulate.strengths", [1.0, 0.0]),
    ("autoencoder.diffae.encoder_blocks", [1]),
    ("autoencoder.diffae.attention_levels", [2]),
    # too much of a good thing
    ("data.image_size", 10**9),
    ("data.image_size", [64, 0]),
    ("data.image_size", [64]),
    ("data.channels", 4),
    ("autoencoder.encoder_channels", [8] * 17),
    ("autoencoder.encoder_blocks", [10**9, 1]),
    ("autoencoder.adversarial.layers", 30),
    ("denoiser.channels", [10**12]),
    ("denoiser.depth", 10**6),
    ("denoiser.epochs", 10**30),
    ("sample.steps", 10**9),
    ("sample.count", 10**18),
    ("compute.threads", 10**6),
    ("compute.workers", 10**6),
    ("compute.devices", 0),
    ("compute.devices", 10**6),
    ("compute.nodes", -1),
    ("compute.nodes", 1.5),
]
TOGETHER: list[tuple[str, dict[str, Any]]] = [  # each right, but not together: what is named first, and all changes
    ("sample.guidance_scale", {"denoiser.label_dropout": 0.0, "denoiser.preview.guidance_scale": 1.0}),
    ("denoiser.preview.guidance_scale", {"denoiser.label_dropout": 0.0, "sample.guidance_scale": 1.0}),
    ("evaluate.pair_count", {"evaluate.neighbours": 5000}),
    ("evaluate.max_images", {"evaluate.max_images": 5}),
    ("sample.count", {"sample.count": 4}),
    ("autoencoder.attention_levels", {"autoencoder.attention_levels": [0, 1], "autoencoder.encoder_blocks": [1, 0]}),
    ("autoencoder.attention_levels", {"autoencoder.attention_levels": [0], "autoencoder.decoder_blocks": [0, 1]}),
    ("denoiser.name", {"denoiser.name": "mlp"}),
    ("denoiser.name", {"autoencoder.latent_dim": 32}),
    ("denoiser.width", {"denoiser.name": "dit", "denoiser.heads": 5}),
    ("sample.guidance_start", {"sample.guidance_start": 0.75, "sample.guidance_end": 0.5}),
    ("data.horizontal_flip", {"data.horizontal_flip": True, "data.name": "digits"}),
    (
        "autoencoder.optimizer.accumulate",
        {"autoencoder.adversarial.weight": 0.1, "autoencoder.optimizer.accumulate": 2},
    ),
    ("compute.devices", {"compute.devices": 100, "compute.nodes": 2}),
    ("compute.strategy", {"compute.strategy": "fsdp", "compute.devices": 2, "autoencoder.adversarial.weight": 0.1}),
    # refused by latentline.diffusion and latentline.samplers
    ("autoencoder.diffae.prediction", {"autoencoder.diffae.prediction": "epsilon"}),
    ("denoiser.process.prediction", {"denoiser.process.path": "vp_cosine"}),
    ("denoiser.process.prediction", {"denoiser.process.path": "vp_linear", "sample.sampler": "ddpm"}),
    (
        "sample.sampler",
        {"denoiser.process.path": "vp_cosine", "denoiser.process.prediction": "v", "sample.sampler": "flow_sde"},
    ),
    ("sample.sampler", {"denoiser.process.prediction": "x0", "sample.sampler": "heun"}),
    ("sample.steps", {"sample.time_grid": "discrete", "sample.steps": 1001}),
]
STAGES = (
    download,
    train_feature_extractor,
    train_autoencoder,
    encode_and_cache_latents,
    train_denoiser,
    sample,
    train_latent_classifiers,
    manipulate,
    evaluate,
)


@pytest.fixture(scope="module")
def default(root) -> dict[str, Any]:
    return read_params(root / "recipes" / "default.yaml")


@pytest.fixture
def content(default) -> dict[str, Any]:
    return copy.deepcopy(default)


def _shows(text: str, value: object) -> bool:
    """Return whether the text has the value, perhaps shortened; of a list, at least the number that is wrong."""
    if value is None:
        return "null" in text
    numbers = [repr(number) for number in value] if isinstance(value, list) else []
    return any(shown in text for shown in (reprlib.repr(value), str(value).lower(), *numbers))


def _refusal(content: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        validate(content)
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("setting", "value"), BAD_VALUES, ids=[f"{setting}={reprlib.repr(value)}" for setting, value in BAD_VALUES]
)
def test_a_bad_value_is_refused_in_one_line(content, setting, value):
    set_params(content, {setting: value})
    line = _refusal(content)
    found = re.fullmatch(r"params\.yaml: (?P<name>[\w.]+) \((?P<value>[^;]+?)\)[^;]* must be [^;]+; [^;]+", line)
    assert found, line
    assert found["name"] == setting or re.fullmatch(
        re.escape(setting) + r"\.\d+", found["name"]
    )  # of a list, the entry
    assert _shows(found["value"], value), line


@pytest.mark.parametrize("setting", ["denoiser.ema_decay", "data.val_fraction", "autoencoder.adversarial.steps"])
def test_these_tests_name_no_setting_that_does_not_exist(content, setting):
    with pytest.raises(AssertionError, match=setting):
        set_params(content, {setting: 1})


def test_no_row_stands_twice():
    rows = [(setting, repr(value)) for setting, value in (*BAD_VALUES, *TOGETHER)]
    assert len(set(rows)) == len(rows)


def _value(content: dict[str, Any], setting: str) -> Any:
    value: Any = content
    for part in setting.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize(
    ("setting", "changes"), TOGETHER, ids=[f"{setting}: {' '.join(changes)}" for setting, changes in TOGETHER]
)
def test_settings_that_cannot_work_together_are_refused_in_one_line(content, setting, changes):
    set_params(content, changes)
    line = _refusal(content)
    found = re.fullmatch(rf"params\.yaml: {re.escape(setting)} \((?P<value>[^;]+?)\)[^;]* must be [^;]+; [^;].+", line)
    assert found, line
    assert _shows(found["value"], _value(content, setting)), line


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        (
            "autoencoder.epochs",
            -1,
            "autoencoder.epochs (-1) must be an integer of at least 0; correct it, or take the default, 2",
        ),
        (
            "denoiser.epochs",
            10**10,
            "denoiser.epochs (10000000000) must be an integer from 0 to 1000000000; correct it",
        ),
        ("compute.threads", True, "compute.threads (true) must be an integer from 1 to 1024; correct it"),
        (
            "denoiser.channels",
            [64, 12],
            "denoiser.channels.1 (12) must be an integer from 8 to 65536 and divisible by 8; ",
        ),
        (
            "denoiser.channels",
            [],
            "denoiser.channels ([]) must be a list of 1 to 16 entries, each an integer from 8 to 65536 ",
        ),
        ("denoiser.label_dropout", 1.0, "denoiser.label_dropout (1.0) must be a number of at least 0 and below 1; "),
        ("denoiser.optimizer.lr", INF, "denoiser.optimizer.lr (inf) must be a number above 0 and finite; correct it"),
        ("denoiser.optimizer.gamma", 0.0, "denoiser.optimizer.gamma (0.0) must be a number above 0 and at most 1; "),
        (
            "data.splits.val",
            None,
            "data.splits.val (null) must be a number above 0 and below 0.5; correct it, or take ",
        ),
        (
            "data.limit",
            "9",
            "data.limit ('9') must be an integer of at least 1 or null; correct it, or take the default, null",
        ),
        (
            "data.image_size",
            [8],
            "data.image_size ([8]) must be an integer from 1 to 16384 or a list of 2 entries, each an ",
        ),
        (
            "data.path",
            "",
            "data.path ('') must be text that is not empty; correct it, or take the default, data/source",
        ),
        (
            "data.horizontal_flip",
            1,
            "data.horizontal_flip (1) must be true or false; correct it, or take the default, false",
        ),
        ("latents.scaling", "fixed", "latents.scaling ('fixed') must be per_channel or a number above 0; correct it"),
        (
            "denoiser.name",
            "",
            "denoiser.name ('') must be one of unet, dit, mlp; correct it, or take the default, unet",
        ),
        (
            "denoiser.process",
            3,
            "denoiser.process (3) must be a section with settings; write them as in recipes/default.yaml",
        ),
        (
            "manipulate.strengths",
            [NAN, 0.0],
            "manipulate.strengths.0 (nan) must be a number that is finite; correct it",
        ),
    ],
)
def test_a_bad_value_is_answered_with_the_bounds_in_words(content, setting, value, expected):
    set_params(content, {setting: value})
    assert _refusal(content).startswith(f"params.yaml: {expected}")


@pytest.mark.parametrize(
    ("width", "heads", "remedy"),
    [(96, 5, "set heads to 4 or 6"), (256, 3, "set heads to 2 or 4"), (8, 9, "set heads to 8")],
)
def test_a_width_that_its_heads_do_not_divide_is_refused_with_heads_that_do(content, width, heads, remedy):
    set_params(content, {"denoiser.name": "dit", "denoiser.width": width, "denoiser.heads": heads})
    expected = f"divisible by denoiser.heads ({heads})"
    assert _refusal(content) == f"params.yaml: denoiser.width ({width}) must be {expected}; {remedy}"


def test_a_name_with_a_line_break_is_still_one_line(content):
    content["data"]["a\nb"] = 1
    assert "data.'a\\nb' (1) must be a setting that recipes/default.yaml has; " in _refusal(content)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__.rpartition(".")[2])
def test_every_stage_stops_at_a_bad_setting_of_any_section_and_writes_nothing(workplace, write_params, capsys, stage):
    write_params(workplace, {"manipulate.count": -3})
    with pytest.raises(SystemExit) as stopped:
        run_stage("a_stage", stage.main)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: params.yaml: manipulate.count (-3) must be an integer of at least 1; correct it, ")
    assert [path.name for path in workplace.iterdir()] == ["params.yaml"]


def test_a_stages_script_exits_with_2_and_one_line_and_writes_nothing(workplace, write_params, root):
    settings = {"sample.sampler": "flow_sde", "denoiser.process.path": "vp_cosine", "denoiser.process.prediction": "v"}
    write_params(workplace, settings)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "stages.sample"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert re.match(r"error: params\.yaml: sample\.sampler \(flow_sde\) must be [^;]+ on path vp_cosine, [^;]+; ", line)
    assert [path.name for path in workplace.iterdir()] == ["params.yaml"]
