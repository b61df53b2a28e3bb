"""Pictures with captions: mixed prompts, edits between two captions, labels that follow captions, longer trainings."""

import json
import shutil

import pandas as pd
import pytest
import torch

from latentline import load
from latentline.core.arrays import load_arrays
from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.core.paths import DENOISER
from support.captioned import CAPTIONS
from support.small_kinds import SmallRun

pytestmark = pytest.mark.usefixtures("machine")
PROMPTS = ["a red square", "a blue bar"]


def test_prompts_are_mixed_with_weights(captioned):
    model = load(captioned.folder)
    one, other = (model.condition(prompt=prompt) for prompt in PROMPTS)
    mixture = model.mix([(one, 1.5), (other, -0.5)])
    z0 = model.sample(3, mixture, steps=2)
    assert torch.equal(z0, model.sample(3, prompt=dict(zip(PROMPTS, (1.5, -0.5), strict=True)), steps=2))
    negative = model.sample(3, one, steps=2, guidance_scale=1.5, negative_prompt=PROMPTS[1])
    torch.testing.assert_close(z0, negative, atol=1e-4, rtol=1e-4)
    guided = model.sample(3, one, steps=2, guidance_scale=2.0)
    torch.testing.assert_close(model.sample(3, model.mix([(one, 2.0)]), steps=2), guided, atol=1e-4, rtol=1e-4)
    of_each = model.mix([(model.condition(prompt=[*PROMPTS, "red"]), 1), (one, 1)])
    assert (of_each.size, [condition.size for condition in of_each.conditions]) == (3, [3, 3])
    images = model.decode(z0).clamp(-1, 1)
    assert model.sdedit(images, 0.5, mixture, steps=2).shape == images.shape
    mask = torch.ones(images.shape[-2:], dtype=torch.bool)
    assert model.inpaint(images, mask, of_each, steps=2, resamplings=1).shape == images.shape


def test_the_direction_between_two_prompts_depends_on_the_image_and_not_on_the_batch(captioned):
    model = load(captioned.folder)
    images = torch.rand(3, *model.image_shape) * 2 - 1
    direction = model.prompt_direction(images, *PROMPTS, strength=2.0)
    assert direction.shape == (3, *model.latent_shape)
    alone = model.prompt_direction(images[2:], *PROMPTS, strength=2.0, first=2)
    torch.testing.assert_close(alone, direction[2:], atol=1e-4, rtol=1e-4)
    conditions = [model.condition(prompt=prompt) for prompt in PROMPTS]
    assert torch.equal(model.prompt_direction(images, *conditions, strength=2.0), direction)
    assert not model.prompt_direction(images, PROMPTS[0], PROMPTS[0]).any()
    assert model.prompt_direction(images[:0], *PROMPTS).shape == (0, *model.latent_shape)
    with pytest.raises(UserError, match=r"^strength \('2'\) must be from -100 to 100; correct it"):
        model.prompt_direction(images, *PROMPTS, strength="2")


def test_manipulate_edits_between_two_captions(copied, caplog):
    with caplog.at_level("INFO"):
        copied.run("manipulate")
    assert "these images have captions: manipulate.prompts edits from one caption to another" in caplog.messages
    assert copied.metrics("manipulate") == {"targets": 0}
    settings = {"manipulate.prompts": PROMPTS, "manipulate.prompt_strengths": [0.0, 1e3]}  # 2 epochs taught it little
    with caplog.at_level("INFO"):
        copied.run("manipulate", **settings)
    found = copied.metrics("manipulate")["prompts"]
    assert f"{found['count']} of 8 images have the caption 'a red square'" in caplog.messages
    assert (found["from"], found["to"]) == tuple(PROMPTS)
    table = found["by_strength"]
    assert [set(row) for row in table] == [{"strength", "ssim", "ssim_random"}] * 2  # there are no labels
    assert table[0]["ssim"] == pytest.approx(table[0]["ssim_random"]) == pytest.approx(1, abs=1e-3)
    assert table[1]["ssim"] < 1
    folder = copied.folder / "fig" / "manipulate"
    assert pd.read_csv(folder / "prompts.csv")["strength"].tolist() == [0, 1e3]
    assert (folder / "prompts.png").exists()
    digest = sha256_file(folder / "prompts.png")
    shutil.rmtree(copied.folder / ".state")
    copied.run("manipulate", **settings)
    assert sha256_file(folder / "prompts.png") == digest


def test_prompts_of_edits_are_refused_without_captions_or_a_denoiser_that_takes_them(copied):
    with pytest.raises(
        UserError, match=r"manipulate.prompts \(.*\) must be \[\] while denoiser.condition is none; set"
    ):
        copied.run("manipulate", **{"manipulate.prompts": PROMPTS, "denoiser.condition": "none"})
    for path in (copied.folder / "pictures").glob("*.txt"):
        path.unlink()
    copied.run("download")
    with pytest.raises(UserError, match=r"^manipulate.prompts \(.*\) must be \[\] for images without captions; set it"):
        copied.run("manipulate", **{"manipulate.prompts": PROMPTS})


def _prompts(run: SmallRun) -> list[str]:
    return json.loads((run.folder / "data" / "generated" / "prompts.json").read_text())["prompts"]


def _label(run: SmallRun) -> None:
    """Give each picture the class of its colour and the attribute of its shape, as in its caption."""
    rows = ["file,label,bar"]
    for number in range(48):
        _, colour, shape = CAPTIONS[number % len(CAPTIONS)].split()
        rows.append(f"{number:02}.png,{colour},{int(shape == 'bar')}")
    (run.folder / "labels.csv").write_text("\n".join(rows) + "\n")


def test_labels_follow_captions(copied):
    _label(copied)
    copied.run("download", "encode_and_cache_latents", "train_denoiser", "sample")
    arrays, meta = load_arrays(copied.folder / "data" / "generated" / "samples-00000.safetensors", "sample")
    classes = meta["schema"][0]["classes"]
    prompts = _prompts(copied)
    said = [prompts[index % len(prompts)].split() for index in range(len(arrays["labels"]))]
    agree = [
        (classes[label], "bar" if bar else "square") == (words[1], words[2])
        for label, bar, words in zip(arrays["labels"].tolist(), arrays["attributes"][:, 0].tolist(), said, strict=True)
        if words  # the others have no caption
    ]
    assert len(agree) > 6
    assert all(agree)
    copied.run("sample", **{"sample.prompts": PROMPTS})
    assert copied.samples()["labels"].tolist() == [index % len(classes) for index in range(12)]


@pytest.mark.slow  # six stages run again
def test_edits_between_two_captions_are_scored_by_labels_where_there_are_any(copied):
    _label(copied)
    copied.run("download", "train_feature_extractor", "encode_and_cache_latents", "train_denoiser", "sample")
    prompts = sorted({prompt for prompt in _prompts(copied) if prompt})[:2]
    settings = {"manipulate.prompts": prompts, "manipulate.prompt_strengths": [1.0], "manipulate.renoise": 0.0}
    copied.run("train_latent_classifiers", "manipulate", **settings)
    (row,) = copied.metrics("manipulate")["prompts"]["by_strength"]
    assert {"labels_changed", "labels_changed_random", "target_labels", "target_labels_random"} <= set(row)
    assert copied.metrics("manipulate")["targets"] > 0


@pytest.mark.slow  # a second training from scratch; `test_loop_resume` has the rule
def test_more_epochs_continue_to_the_bytes_of_a_longer_training(captioned, copied, caplog, tmp_path):
    longer = {"denoiser.epochs": 3}
    with caplog.at_level("INFO"):
        copied.run("train_denoiser", **longer)
    assert [message for message in caplog.messages if message.startswith("resumed train_denoiser at step")]
    fresh = captioned.copy(tmp_path / "fresh")
    shutil.rmtree(fresh.folder / ".state")
    fresh.run("train_denoiser", **longer)
    assert sha256_file(fresh.folder / DENOISER) == sha256_file(copied.folder / DENOISER)
    assert sha256_file(fresh.folder / DENOISER) != sha256_file(captioned.folder / DENOISER)
