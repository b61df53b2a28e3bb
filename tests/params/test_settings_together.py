"""Settings that cannot work together are refused in one line, by every stage, before anything is written."""

import os
import re
import subprocess
import sys
from typing import Any

import pytest

from latentline.core.stage import run_stage
from support import stage_runs
from support.checkout import STAGES
from support.params import set_params
from support.refusals import refusal, shows

FLOW_MAP = {"denoiser.objective": "flow_map", "denoiser.init_from": "flow"}
ONE_STEP = {**FLOW_MAP, "sample.sampler": "flow_map", "sample.steps": 1}
TOGETHER: list[tuple[str, dict[str, Any]]] = [  # the setting that is named first, and all changes
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
    ("denoiser.text.width", {"denoiser.text.heads": 3}),
    ("text.path", {"text.encoder": "pretrained"}),
    ("feature_extractor.captions.width", {"feature_extractor.captions.heads": 3}),
    ("denoiser.width", {"denoiser.name": "dit", "denoiser.heads": 128, "denoiser.rope": True}),
    ("sample.guidance_start", {"sample.guidance_start": 0.75, "sample.guidance_end": 0.5}),
    (
        "sample.guidance_rescale",
        {"sample.guidance_rescale": 0.5, "autoencoder.latent_dim": 1, "denoiser.name": "mlp"},
    ),
    (
        "sample.guidance_rescale",
        {
            "sample.guidance_rescale": 0.5,
            "autoencoder.name": "diffae",
            "autoencoder.diffae.embedding_dim": 1,
            "denoiser.name": "mlp",
        },
    ),
    ("evaluate.bayes.count", {"denoiser.condition": "none", "evaluate.bayes.count": 5}),
    (
        "evaluate.classification_accuracy_score",
        {"denoiser.condition": "none", "evaluate.classification_accuracy_score": True},
    ),
    ("evaluate.bayes.count", {"denoiser.condition": "text", "evaluate.bayes.count": 5}),
    ("sample.prompts", {"denoiser.condition": "none", "sample.prompts": ["red"]}),
    ("sample.negative_prompt", {"denoiser.condition": "class", "sample.negative_prompt": "red"}),
    ("manipulate.prompts", {"denoiser.condition": "none", "manipulate.prompts": ["red", "blue"]}),
    ("manipulate.prompts", {"manipulate.prompts": ["red"]}),
    ("manipulate.prompts", {"manipulate.prompts": ["red", "red"]}),
    ("manipulate.prompt_strengths", {"manipulate.prompt_strengths": [2.0, 1.0]}),
    ("sample.prompts_file", {"denoiser.condition": "class", "sample.prompts_file": "prompts.txt"}),
    ("sample.prompts_file", {"sample.prompts": ["red"], "sample.prompts_file": "prompts.txt"}),
    ("data.horizontal_flip", {"data.horizontal_flip": True, "data.name": "digits"}),
    (
        "autoencoder.optimizer.accumulate",
        {"autoencoder.adversarial.weight": 0.1, "autoencoder.optimizer.accumulate": 2},
    ),
    ("compute.devices", {"compute.devices": 100, "compute.nodes": 2}),
    ("compute.strategy", {"compute.strategy": "fsdp", "compute.devices": 2, "autoencoder.adversarial.weight": 0.1}),
    # refused by latentline.diffusion and latentline.samplers
    ("autoencoder.diffae.prediction", {"autoencoder.diffae.prediction": "epsilon"}),
    ("denoiser.process.prediction", {"denoiser.process.prediction": "epsilon"}),
    ("denoiser.process.prediction", {"denoiser.process.path": "vp_cosine"}),
    ("denoiser.process.prediction", {"denoiser.process.path": "vp_linear", "sample.sampler": "ddpm"}),
    (
        "sample.sampler",
        {"denoiser.process.path": "vp_cosine", "denoiser.process.prediction": "v", "sample.sampler": "flow_sde"},
    ),
    (
        "sample.sampler",
        {"denoiser.process.path": "vp_linear", "denoiser.process.prediction": "v", "sample.sampler": "flow_sde"},
    ),
    ("sample.sampler", {"denoiser.process.prediction": "x0", "sample.sampler": "heun"}),
    ("denoiser.objective", {"denoiser.objective": "shortcut"}),
    ("denoiser.flow_map.fraction", {"denoiser.flow_map.fraction": 1.0}),
    ("denoiser.flow_map.trajectories", {"denoiser.flow_map.trajectories": 0}),
    ("denoiser.flow_map.steps", {"denoiser.flow_map.steps": 7}),
    ("denoiser.flow_map.guidance_scale", {"denoiser.flow_map.guidance_scale": -0.5}),
    ("denoiser.flow_map.guidance_start", {"denoiser.flow_map.guidance_start": -0.1}),
    ("denoiser.flow_map.guidance_end", {"denoiser.flow_map.guidance_end": 1.1}),
    ("denoiser.flow_map.guidance_start", {**FLOW_MAP, "denoiser.flow_map.guidance_start": 0.7}),
    ("denoiser.flow_map.fraction", {**FLOW_MAP, "denoiser.optimizer.batch_size": 1}),
    ("denoiser.init_from", {"denoiser.objective": "flow_map"}),
    ("denoiser.epochs", {**FLOW_MAP, "denoiser.epochs": 0}),
    ("denoiser.process.path", {**FLOW_MAP, "denoiser.process.path": "vp_cosine", "denoiser.process.prediction": "v"}),
    ("denoiser.process.prediction", {**FLOW_MAP, "denoiser.process.prediction": "v"}),
    ("denoiser.process.loss_weighting", {**FLOW_MAP, "denoiser.process.loss_weighting": "min_snr"}),
    ("sample.sampler", {"sample.sampler": "flow_map"}),
    ("sample.steps", {**FLOW_MAP, "sample.sampler": "flow_map"}),
    ("sample.time_grid", {**ONE_STEP, "sample.time_grid": "shifted"}),
    ("sample.guidance_scale", {**ONE_STEP, "sample.guidance_scale": 2.0}),
    ("sample.guidance_rescale", {**ONE_STEP, "sample.guidance_rescale": 0.5}),
    ("sample.guidance_start", {**ONE_STEP, "sample.guidance_start": 0.2}),
    ("sample.guidance_end", {**ONE_STEP, "sample.guidance_end": 0.7}),
    ("sample.steps", {"sample.time_grid": "discrete", "sample.steps": 1001}),
]


def test_no_row_stands_twice():
    rows = [(setting, repr(changes)) for setting, changes in TOGETHER]
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
    line = refusal(content)
    found = re.fullmatch(rf"params\.yaml: {re.escape(setting)} \((?P<value>[^;]+?)\)[^;]* must be [^;]+; [^;].+", line)
    assert found, line
    assert shows(found["value"], _value(content, setting)), line


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_stops_at_a_bad_setting_of_any_section_and_writes_nothing(workplace, write_params, capsys, stage):
    write_params(workplace, {"manipulate.count": -3})
    with pytest.raises(SystemExit) as stopped:
        run_stage("a_stage", lambda: stage_runs.run_stage(stage))
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


def test_a_kind_of_an_attribute_that_does_not_exist_is_refused_by_the_attributes_name(content):
    content["data"]["attributes"] = {"hair": "categorical", "age": "number"}
    assert "data.attributes.age ('number') must be one of binary, categorical, continuous; " in refusal(content)


def test_a_name_with_a_line_break_is_still_one_line(content):
    content["data"]["a\nb"] = 1
    assert "data.'a\\nb' (1) must be a setting that recipes/default.yaml has; " in refusal(content)
