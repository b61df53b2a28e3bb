"""Bad values of settings: each is refused in one line with name, value, expectation and remedy."""

import re
import reprlib
from typing import Any

import pytest

from support.params import set_params
from support.refusals import refusal, shows

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
    ("data.attributes", None),
    ("data.attributes", ["age"]),
    ("data.missing", "impute"),
    ("data.missing", True),
    ("data.captions", "text"),
    ("data.captions", None),
    ("data.captions", False),
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
    ("compute.deterministic", "warn"),
    ("compute.compile", "inductor"),
    ("evaluate.bayes", "off"),
    ("evaluate.classification_accuracy_score", 1),
    ("autoencoder.optimizer.milestones", 2),
    ("denoiser.ema_decays", 0.9),
    # a number outside its range
    ("seed", -1),
    ("seed", 2**32),
    ("data.limit", 0),
    ("data.limit", -5),
    ("data.max_missing_captions", -0.1),
    ("data.max_missing_captions", 1.0),
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
    ("sample.guidance_scale", 1e30),
    ("sample.guidance_scale", 100.5),
    ("sample.sigma_scale", 1e30),
    ("sample.diffusion", 1e30),
    ("denoiser.preview.guidance_scale", 1e30),
    ("manipulate.renoise_guidance_scale", 1e30),
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
    ("compute.gradient_checkpointing", 1),
    ("compute.save_every_seconds", 0.0),
    ("compute.keep_states_gib", -1.0),
    ("denoiser.optimizer.milestones", [0, 2]),
    ("denoiser.optimizer.milestones", [3, 2]),
    ("feature_extractor.optimizer.milestones", [2, 2]),
    ("denoiser.optimizer.gamma", 0.0),
    ("denoiser.optimizer.precision", "float64"),
    ("sample.precision", 16),
    ("autoencoder.optimizer.betas", [0.9]),
    ("feature_extractor.optimizer.betas", [0.9, 1.0]),
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
    ("denoiser.norm", "batch"),
    ("denoiser.mlp", "relu"),
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
    ("denoiser.time_features", 12),
    ("denoiser.time_scale", 0.0),
    ("denoiser.rope", 1),
    ("denoiser.qk_norm", None),
    ("denoiser.learn_sigma", "no"),
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
    ("data.value_range", [4095, 0]),
    ("data.value_range", [1]),
    ("data.value_range", 255),
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


@pytest.mark.parametrize(
    ("setting", "value"), BAD_VALUES, ids=[f"{setting}={reprlib.repr(value)}" for setting, value in BAD_VALUES]
)
def test_a_bad_value_is_refused_in_one_line(content, setting, value):
    set_params(content, {setting: value})
    line = refusal(content)
    found = re.fullmatch(r"params\.yaml: (?P<name>[\w.]+) \((?P<value>[^;]+?)\)[^;]* must be [^;]+; [^;]+", line)
    assert found, line
    assert found["name"] == setting or re.fullmatch(
        re.escape(setting) + r"\.\d+", found["name"]
    )  # of a list, the entry
    assert shows(found["value"], value), line


@pytest.mark.parametrize("setting", ["denoiser.ema_decay", "data.val_fraction", "autoencoder.adversarial.steps"])
def test_these_tests_name_no_setting_that_does_not_exist(content, setting):
    with pytest.raises(AssertionError, match=setting):
        set_params(content, {setting: 1})


def test_no_row_stands_twice():
    rows = [(setting, repr(value)) for setting, value in BAD_VALUES]
    assert len(set(rows)) == len(rows)


def test_a_kind_of_an_attribute_that_does_not_exist_is_refused_by_the_attributes_name(content):
    content["data"]["attributes"] = {"hair": "categorical", "age": "number"}
    assert "data.attributes.age ('number') must be one of binary, categorical, continuous; " in refusal(content)


def test_a_name_with_a_line_break_is_still_one_line(content):
    content["data"]["a\nb"] = 1
    assert "data.'a\\nb' (1) must be a setting that recipes/default.yaml has; " in refusal(content)
