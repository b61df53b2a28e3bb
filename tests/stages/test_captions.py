"""Stages on pictures with captions: all end, killed ones continue to the same bytes, prompts reach the samples."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch

from latentline import load
from latentline.core.arrays import load_arrays
from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.core.paths import DENOISER
from latentline.runtime.checkpoint import load_checkpoint
from stages.train_denoiser import train
from support.captioned import CAPTIONS
from support.small_kinds import SMALL, SmallRun
from support.training_run import save_after_each_step

pytestmark = pytest.mark.usefixtures("machine")


def _prompts(run: SmallRun) -> list[str]:
    return json.loads((run.folder / "data" / "generated" / "prompts.json").read_text())["prompts"]


def test_samples_have_the_captions_of_the_test_images_in_turn(captioned):
    prompts = _prompts(captioned)
    lines = (captioned.folder / "data" / "prepared" / "captions-test.jsonl").read_text().splitlines()
    assert prompts == [json.loads(line).lower() for line in lines]
    grid = pd.read_csv(captioned.folder / "fig" / "sample" / "prompts.csv", keep_default_na=False)
    assert set(grid["prompt"]) <= set(prompts)
    assert not grid.duplicated(["row", "column"]).any()


def test_the_checkpoint_alone_holds_the_tokenizer(captioned):
    checkpoint = load_checkpoint(captioned.folder / DENOISER, kind="denoiser", made_by="")
    text = checkpoint.settings["text"]
    assert text["tokenizer"] == (captioned.folder / "encoded_img" / "text" / "tokenizer.json").read_text()
    assert checkpoint.constructor["text"] == {"num_ids": 276, "length": 4, "width": 16, "depth": 1, "heads": 2}
    assert {name.split(".")[0] for name in checkpoint.tensors} == {"text", "network", "guide"}


@pytest.mark.slow  # seconds, for what the rule of `build_conditioning` says
def test_the_default_condition_is_the_same_as_text_for_images_with_captions_alone(captioned, copied):
    copied.run("train_denoiser", **{"denoiser.condition": "text"})
    one, other = (load_checkpoint(run.folder / DENOISER, kind="denoiser", made_by="") for run in (captioned, copied))
    assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


@pytest.mark.slow  # seconds
def test_a_denoiser_that_reads_no_captions_is_a_plain_one(copied):
    copied.run("train_denoiser", "sample", **{"denoiser.condition": "none", "denoiser.attention_levels": []})
    checkpoint = load_checkpoint(copied.folder / DENOISER, kind="denoiser", made_by="")
    assert "text" not in {**checkpoint.constructor, **checkpoint.settings}
    assert not (copied.folder / "data" / "generated" / "prompts.json").exists()


def test_a_killed_training_continues_to_the_same_bytes(captioned, copied, monkeypatch, caplog):
    shutil.rmtree(copied.folder / ".state")
    save_after_each_step(monkeypatch)
    loss, steps = train.denoising_loss, []

    def killed(*arguments):
        if arguments[0].training:
            steps.append(1)
            if len(steps) == 2:
                raise RuntimeError("killed")
        return loss(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, "denoising_loss", killed)
        with pytest.raises(RuntimeError, match="killed"):
            copied.run("train_denoiser")
    with caplog.at_level("INFO"):
        copied.run("train_denoiser")
    assert "resumed train_denoiser at step 1" in caplog.messages
    assert sha256_file(copied.folder / DENOISER) == sha256_file(captioned.folder / DENOISER)


@pytest.mark.slow  # three stages run again
def test_other_captions_train_another_denoiser_and_are_no_continuation(captioned, copied, caplog):
    for path in (copied.folder / "pictures").glob("*.txt"):
        path.write_text("a circle")
    with caplog.at_level("INFO"):
        copied.run("download", "encode_and_cache_latents", "train_denoiser")
    assert not [message for message in caplog.messages if message.startswith("resumed train_denoiser")]
    assert sha256_file(copied.folder / DENOISER) != sha256_file(captioned.folder / DENOISER)


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_train_the_same_denoiser_to_float_tolerance(captioned, copied, root, strategy):
    shutil.rmtree(copied.folder / ".state")
    params = {**SMALL, **copied.networks, "compute.devices": 2, "compute.strategy": strategy}
    copied.write_params(copied.folder, params)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "stages.train_denoiser"]
    subprocess.run(command, cwd=copied.folder, env=environment, check=True, capture_output=True, timeout=300)
    for name in ("train_loss", "test_loss"):
        assert copied.metrics("denoiser")[name] == pytest.approx(captioned.metrics("denoiser")[name], rel=1e-4)


def test_prompts_come_from_the_settings_or_a_file_and_batches_change_no_sample(copied):
    prompts = ["A red square", "a blue bar", "a green square"]
    copied.run("sample", **{"sample.prompts": prompts})
    samples = copied.samples()["images"]
    assert _prompts(copied) == [prompt.lower() for prompt in prompts]
    grid = pd.read_csv(copied.folder / "fig" / "sample" / "prompts.csv")
    assert [set(rows) for _, rows in grid.groupby("row")["prompt"]] == [{prompt.lower()} for prompt in prompts]
    (copied.folder / "prompts.txt").write_bytes("\ufeffA red square\r\n\r\n a blue bar \r\na green square".encode())
    copied.run("sample", **{"sample.prompts_file": "prompts.txt", "sample.batch_size": 12})
    assert torch.equal(copied.samples()["images"], samples)


def test_a_negative_prompt_changes_guided_samples(copied):
    copied.run("sample", **{"sample.guide": "own"})  # the early denoiser of so short a training hardly reads captions
    before = copied.samples()["images"]
    copied.run("sample", **{"sample.guide": "own", "sample.negative_prompt": "a red square"})
    assert not torch.equal(copied.samples()["images"], before)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", "folder"])
def test_a_file_of_prompts_that_is_no_text_is_refused(copied, content):
    path = copied.folder / "prompts.txt"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"^sample.prompts_file \(prompts.txt: .*\) must be readable UTF-8 text; mend"):
        copied.run("sample", **{"sample.prompts_file": "prompts.txt"})


def test_settings_that_need_captions_are_refused_before_any_work(copied):
    for path in (copied.folder / "pictures").glob("*.txt"):
        path.unlink()
    for name, value in (("sample.prompts", ["red"]), ("sample.negative_prompt", "red"), ("denoiser.condition", "text")):
        with pytest.raises(UserError, match=rf"^{name} \(.*\) must be .* for images without captions; set it"):
            copied.run("download", **{name: value})
    with pytest.raises(UserError, match=r"^denoiser.attention_levels \(\[\]\) must name a level for a unet"):
        copied.run("train_denoiser", **{"denoiser.attention_levels": []})


def test_weights_that_read_captions_start_no_denoiser_that_does_not(copied):
    shutil.copytree(copied.folder / DENOISER.parent, copied.folder / "given")
    with pytest.raises(
        UserError, match=r"^denoiser.init_from \(given\) .* another denoiser.text \({.*, here None\), tokenizer of"
    ):
        copied.run("train_denoiser", **{"denoiser.init_from": "given", "denoiser.condition": "none"})


def test_from_python_a_prompt_is_a_condition(captioned):
    model = load(captioned.folder)
    z0 = model.sample(2, prompt="a red square", steps=2, guidance_scale=1.5)
    same = model.sample(2, model.condition(prompt="A RED square"), steps=2, guidance_scale=1.5)
    assert torch.equal(z0, same)
    away = model.sample(2, prompt="a red square", steps=2, guidance_scale=1.5, negative_prompt="a blue bar")
    assert not torch.equal(away, z0)
    both = model.condition(prompt=["a red square", "a blue bar"])
    assert both.size == 2
    assert torch.equal(both.rows(slice(1)).tokens, model.condition(prompt="a red square").tokens)
    assert torch.equal(model.condition().mask, model.condition(prompt="").mask)
    assert model.condition(prompt=[]).size == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.condition(prompt=3), "prompt (3) must be a text, or a list of texts; correct it"),
        (
            lambda model: model.condition(label="red"),
            "condition (label) must name no attribute and, if you like, prompt; give each of them, or none at all",
        ),
        (
            lambda model: model.sample(1, model.condition(), prompt="red"),
            "prompt ('red') must be part of condition; pass model.condition(prompt=..., ...)",
        ),
        (
            lambda model: model.mix([model.condition(prompt="red")]),
            "mix ([Condition(vector=tensor([], size=(1, 0)) must be pairs of a condition and a weight; "
            "pass [(model.condition(...), 1.5), (model.condition(...), 0.5)]",
        ),
        (
            lambda model: model.sample(1, prompt={"red": 1, "blue": "2"}),
            "weight ('2') must be from -100 to 100; correct it",
        ),
        (
            lambda model: model.mix([(model.condition(prompt=["red"] * size), 1) for size in (2, 3)]),
            "mix (conditions of [2, 3] examples) must be of one number of examples, or of 1",
        ),
        (
            lambda model: model.sample(1, prompt={"red": 2}, negative_prompt="blue"),
            "negative_prompt ('blue') must be one of the mixed conditions; give it a weight below 0",
        ),
        (
            lambda model: model.sample(3, model.condition(prompt=["red", "blue"])),
            "condition (2, 0) must have the shape (3, 0) or (1, 0); take it from model.condition(...)",
        ),
    ],
)
def test_wrong_prompts_from_python_are_refused_in_one_line(captioned, call, message):
    with pytest.raises(UserError) as caught:
        call(load(captioned.folder))
    assert str(caught.value) == message


def test_images_are_repaired_towards_a_prompt(captioned):
    model = load(captioned.folder)
    images = torch.rand(2, *model.image_shape) * 2 - 1
    mask = torch.zeros(model.image_shape[1:], dtype=torch.bool)
    mask[4:12, 4:12] = True
    condition = model.condition(prompt=["a red square", "a blue bar"])
    filled = model.inpaint(images, mask, condition, steps=2, resamplings=1, guidance_scale=1.5)
    assert filled.shape == images.shape
    assert not torch.equal(filled, model.inpaint(images, mask, steps=2, resamplings=1))


def test_the_example_writes_a_caption_beside_each_picture(root, tmp_path):
    draw = runpy.run_path(str(root / "examples" / "captioned_shapes.py"))["main"]
    draw(tmp_path / "pictures", 7)
    names = {path.stem for path in (tmp_path / "pictures").glob("*.png")}
    captions = {path.stem: path.read_text() for path in (tmp_path / "pictures").glob("*.txt")}
    assert names == captions.keys() == {str(number) for number in range(7)}
    assert all(re.fullmatch("a (red|green|blue) (square|circle)", caption) for caption in captions.values())


def test_the_tokens_of_every_split_are_those_of_its_captions(captioned):
    assert len(CAPTIONS) == 6
    for name in ("train", "val", "test"):
        arrays, meta = load_arrays(captioned.folder / "encoded_img" / "text" / f"tokens-{name}.safetensors", "")
        lines = (captioned.folder / "data" / "prepared" / f"captions-{name}.jsonl").read_text().splitlines()
        assert [bool(json.loads(line)) for line in lines] == arrays["tokens"].any(dim=1).tolist()
        assert meta["empty"] == lines.count('""')


def test_agreement_with_the_prompts_is_scored_beside_its_references(captioned):
    scores = captioned.metrics("evaluate")["caption_retrieval"]
    rows = {"samples", "real_test", "reconstructions", "shuffled_captions"}
    assert scores["images"].keys() == scores["recall_at_1"].keys() == rows
    assert scores["recall_at_1"]["real_test"] == scores["recall_at_1"]["reconstructions"]  # of an identity
    assert scores["images"]["samples"] == scores["images"]["shuffled_captions"] == 12
    assert (captioned.folder / "fig" / "evaluate" / "caption_retrieval.png").exists()


@pytest.mark.slow  # seconds
def test_samples_without_prompts_have_no_such_score_and_the_log_has_the_reason(copied, caplog):
    without = {"denoiser.condition": "none", "denoiser.attention_levels": []}
    with caplog.at_level("INFO"):
        copied.run("train_denoiser", "sample", "evaluate", **without)
    assert "no caption_retrieval: the denoiser is not conditioned on captions" in caplog.messages
    assert "caption_retrieval" not in copied.metrics("evaluate")


def test_from_python_images_and_captions_have_a_similarity(captioned):
    model = load(captioned.folder)
    images = (torch.rand(3, *model.image_shape) * 2 - 1).requires_grad_()
    found = model.caption_similarity(images, ["a red square", "a blue bar"])
    assert found.shape == (3, 2)
    assert found.abs().max() <= 1.001
    torch.testing.assert_close(model.caption_similarity(images, "A blue BAR"), found[:, 1:])
    found.sum().backward()
    assert images.grad.any()
    with pytest.raises(UserError, match=r"^captions \(3\) must be a text, or a list of texts; correct it"):
        model.caption_similarity(images, 3)
