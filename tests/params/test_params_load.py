import copy
import io
from pathlib import Path
from typing import Any

import pytest
from knobs import set_knobs
from ruamel.yaml import YAML

from latentline.common.errors import UserError
from latentline.params.compute import ComputeParams
from latentline.params.data import DataParams
from latentline.params.load import load, read_params, validate
from latentline.params.sample import SampleParams

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
    ("data.limit", 1.5),
    ("autoencoder.epochs", "2"),
    ("autoencoder.epochs", 2.0),
    ("autoencoder.epochs", True),
    ("autoencoder.encoder_channels", 32),
    ("autoencoder.kl_weight", "1e-3"),
    ("autoencoder.optimizer", None),
    ("autoencoder.adversarial", None),
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
    # a number outside its range
    ("seed", -1),
    ("seed", 2**32),
    ("data.limit", 0),
    ("data.limit", -5),
    ("data.val_fraction", 0.0),
    ("data.val_fraction", 0.5),
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
    ("autoencoder.figures.preview_every_epochs", -1),
    ("autoencoder.diffae.embedding_dim", 0),
    ("autoencoder.diffae.encoder_channels", [12]),
    ("autoencoder.diffae.pretrain_epochs", 0),
    ("autoencoder.diffae.patch_size", 0),
    ("autoencoder.diffae.condition_width", 20),
    ("autoencoder.diffae.sample_timesteps", 0),
    ("autoencoder.optimizer.batch_size", 0),
    ("autoencoder.optimizer.lr", 0.0),
    ("autoencoder.optimizer.lr", -1e-3),
    ("autoencoder.optimizer.weight_decay", -0.1),
    ("autoencoder.optimizer.warmup_steps", -1),
    ("autoencoder.optimizer.decay_fraction", 1.0),
    ("autoencoder.optimizer.clip_norm", 0.0),
    ("denoiser.blocks", 0),
    ("denoiser.label_dropout", 1.0),
    ("denoiser.ema_decay", 1.0),
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
    ("latent_classifiers.inverse_regularization", "null"),
    ("latent_classifiers.features", "mean"),
    ("latent_classifiers.logistic", "ovr"),
    ("manipulate.strengths", [1.0]),
    ("manipulate.count", 0),
    ("manipulate.targets", 0),
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
    ("evaluate.pair_count", 0),
    ("compute.threads", 0),
    ("compute.workers", -1),
    ("compute.save_every_seconds", 0.0),
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
    ("autoencoder.diffae.inner", "diffae"),
    ("autoencoder.diffae.encoder_training", "frozen"),
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
    ("manipulate.direction", "random"),
    ("compute.device", "gpu"),
    # each right, but not together
    ("autoencoder.encoder_blocks", [1]),
    ("autoencoder.decoder_channels", [32, 64, 64]),
    ("autoencoder.decoder_blocks", []),
    ("autoencoder.encoder_channels", []),
    ("autoencoder.encoder_channels", [32, 20]),
    ("autoencoder.groups", 16 * 3),
    ("autoencoder.attention_heads", 3),
    ("autoencoder.attention_levels", [2]),
    ("autoencoder.diffae.encoder_blocks", [1]),
    ("autoencoder.diffae.attention_levels", [2]),
    ("autoencoder.diffae.prediction", "epsilon"),
    ("autoencoder.freeze_encoder", True),
    ("autoencoder.init_from", "vae"),
    ("autoencoder.init_from", ""),
    ("denoiser.channels", [4]),
    ("denoiser.attention_levels", [2]),
    ("denoiser.attention_levels", [-1]),
    ("manipulate.strengths", [1.0, 0.0]),
]


@pytest.fixture
def content(root: Path) -> dict[str, Any]:
    return read_params(root / "params.yaml")


def _section(content: dict[str, Any], knob: str) -> tuple[dict[str, Any], str]:
    *parents, name = knob.split(".")
    for parent in parents:
        content = content[parent]
    return content, name


def _written(folder: Path, content: Any) -> Path:
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(content, text)
    path = folder / "params.yaml"
    path.write_text(text.getvalue())
    return path


def _refusal(path: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        load("data", DataParams, path)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(("knob", "value"), BAD_VALUES, ids=[f"{knob}={value}" for knob, value in BAD_VALUES])
def test_a_bad_value_is_refused_in_lines_that_name_the_knob(content, tmp_path, knob, value):
    section, name = _section(content, knob)
    section[name] = value
    lines = _refusal(_written(tmp_path, content))
    assert lines
    assert all(knob in line for line in lines), lines


@pytest.mark.parametrize("knob", ["sed", "dat", "data.nmae", "autoencoder.optimizer.momentum", "denoiser.preview.stepz", "compute.cores"])
def test_an_unknown_knob_is_refused_by_name(content, tmp_path, knob):
    section, name = _section(content, knob)
    section[name] = 1
    (line,) = _refusal(_written(tmp_path, content))
    assert f"{knob}: unknown knob" in line


@pytest.mark.parametrize("knob", ["seed", "data", "data.name", "data.root", "autoencoder.optimizer.lr", "denoiser.process.path", "compute.threads"])
def test_a_missing_knob_is_refused_by_name(content, tmp_path, knob):
    section, name = _section(content, knob)
    del section[name]
    (line,) = _refusal(_written(tmp_path, content))
    assert f"{knob}: missing" in line


@pytest.mark.parametrize("knob", ["sample.guidance_scale", "denoiser.preview.guidance_scale", "manipulate.renoise_guidance_scale"])
def test_guidance_needs_hidden_labels_in_training(content, tmp_path, knob):
    content["denoiser"]["label_dropout"] = 0.0
    content["sample"]["guidance_scale"] = content["denoiser"]["preview"]["guidance_scale"] = 1.0
    validate(content)
    section, name = _section(content, knob)
    section[name] = 2.0
    (line,) = _refusal(_written(tmp_path, content))
    assert f" {knob}: 2.0" in line
    assert "denoiser.label_dropout" in line


def test_all_bad_knobs_are_named_at_once(content, tmp_path):
    content["seed"], content["sample"]["steps"], content["compute"]["device"] = -1, 0, "tpu"
    lines = _refusal(_written(tmp_path, content))
    assert [next(knob for knob in ("seed", "sample.steps", "compute.device") if knob in line) for line in lines] == [
        "seed",
        "sample.steps",
        "compute.device",
    ]


def test_a_value_that_is_refused_is_shown_with_the_remedy(content, tmp_path):
    content["sample"]["steps"] = 0
    (line,) = _refusal(_written(tmp_path, content))
    assert "sample.steps: 0 is refused" in line
    assert "greater than or equal to 1" in line
    assert "recipes/default.yaml" in line


BAD_FILES = {
    "empty": "",
    "a list": "- seed\n",
    "a word": "seed\n",
    "a duplicate section": "data: {}\ndata: {}\n",
    "a duplicate knob": "data:\n  name: digits\n  name: digits\n",
    "a tab": "data:\n\tname: digits\n",
    "an unclosed bracket": "data: [1, 2\n",
    "an unclosed quote": "data: 'x\n",
    "two documents": "seed: 0\n---\nseed: 1\n",
    "a python object": "seed: !!python/object/apply:os.getcwd []\n",
    "a python name": "seed: !!python/name:os.system\n",
    "an unknown tag": "seed: !secret 0\n",
    "an unknown alias": "seed: *x\n",
    "a control character": "seed: \x00\n",
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_plain_mapping_is_refused_in_one_line_that_names_it(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    (line,) = _refusal(path)
    assert str(path) in line


def test_a_missing_file_and_one_of_other_encoding_are_refused_by_name(tmp_path):
    assert "is missing" in _refusal(tmp_path / "absent.yaml")[0]
    (tmp_path / "latin.yaml").write_bytes("seed: 0 # größe".encode("latin-1"))
    assert "latin.yaml" in _refusal(tmp_path / "latin.yaml")[0]


def test_numbers_with_an_exponent_are_numbers(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1e-4\nb: 2E3\nc: 1.5e+2\n")
    assert read_params(path) == {"a": 1e-4, "b": 2000.0, "c": 150.0}


def test_a_whole_number_serves_where_a_fraction_is_expected(content):
    content["autoencoder"]["optimizer"]["lr"] = 1
    assert validate(content).autoencoder.optimizer.lr == 1


def test_a_stage_receives_its_section_the_seed_and_compute(content, tmp_path):
    content["seed"], content["sample"]["steps"], content["compute"]["threads"] = 11, 5, 3
    section, seed, compute = load("sample", SampleParams, _written(tmp_path, content))
    assert isinstance(section, SampleParams)
    assert isinstance(compute, ComputeParams)
    assert (section.steps, seed, compute.threads) == (5, 11, 3)


def test_a_stage_refuses_a_bad_knob_of_another_stage(content, tmp_path):
    content["evaluate"]["neighbours"] = 0
    with pytest.raises(UserError, match=r"evaluate\.neighbours"):
        load("sample", SampleParams, _written(tmp_path, content))


def test_sections_are_frozen(content):
    params = validate(copy.deepcopy(content))
    with pytest.raises(ValueError, match="frozen"):
        params.data.limit = 5


@pytest.mark.parametrize(
    ("changes", "knob"),
    [
        ({"evaluate.neighbours": 5000}, "evaluate.neighbours"),
        ({"evaluate.max_images": 5}, "evaluate.neighbours"),
        ({"sample.count": 4, "evaluate.neighbours": 5}, "sample.count"),
        ({"sample.count": 1}, "sample.count"),
        ({"autoencoder.attention_levels": [0, 1], "autoencoder.encoder_blocks": [1, 0]}, "autoencoder.attention_levels: 1 "),
        ({"autoencoder.attention_levels": [0], "autoencoder.decoder_blocks": [0, 1]}, "autoencoder.attention_levels: 0 "),
        ({"autoencoder.name": "diffae"}, "denoiser.name"),
        ({"autoencoder.name": "diffae", "denoiser.name": "mlp", "autoencoder.perceptual_weight": 0.1}, "autoencoder.perceptual_weight: 0.1 "),
        ({"autoencoder.name": "diffae", "denoiser.name": "mlp", "autoencoder.adversarial.weight": 0.1}, "autoencoder.adversarial.weight: 0.1 "),
        (
            {"autoencoder.name": "diffae", "denoiser.name": "mlp", "autoencoder.diffae.inner": "vae", "autoencoder.latent_dim": 8},
            "autoencoder.latent_dim: 8 ",
        ),
    ],
)
def test_knobs_that_cannot_work_together_are_refused(root, changes, knob):
    content = read_params(root / "params.yaml")
    set_knobs(content, changes)
    with pytest.raises(UserError, match=knob.replace(".", r"\.")):
        validate(content)
