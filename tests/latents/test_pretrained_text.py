"""Pretrained text encoders: their states are those of ``transformers``, and a denoiser trains on them and draws."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from latentline import load
from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.core.paths import DENOISER, LATENT_TEXT
from latentline.latents import pretrained_text
from latentline.latents.caption_states import different_captions, read_states, write_states
from latentline.latents.pretrained_text import (
    PretrainedTextEncoder,
    read_info,
    read_pretrained_tokenizer,
    require_text_encoder,
)
from latentline.latents.tokenizer import PADDING, CaptionTokenizer
from latentline.runtime.checkpoint import load_checkpoint
from stages.encode_and_cache_latents import captions as captions_module
from stages.encode_and_cache_latents.captions import EncodedCaptions
from stages.encode_and_cache_latents.text_params import TextParams
from support.captioned import captioned_run
from support.small_kinds import SmallRun
from support.text_models import POSITIONS, WIDTH, WRITERS, write_clip

CPU = torch.device("cpu")
TEXTS = ["A red square", "a blue bar", "", "A red square", "a green bar and a red square and a blue bar and a red one"]
LENGTH = 10  # the last text is cut


@pytest.fixture(scope="module", params=WRITERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WRITERS[kind][0](tmp_path_factory.mktemp(kind))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> CaptionTokenizer:
    return read_pretrained_tokenizer(folder, LENGTH)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> PretrainedTextEncoder:
    return PretrainedTextEncoder(folder, read_info(folder), CPU)


def _reference(kind: str, folder: Path, text: str) -> Tensor:
    """Return the states (n, D) of one text, as ``transformers`` computes them without padding."""
    encoded = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=LENGTH, return_tensors="pt")
    model = WRITERS[kind][1].from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**{name: encoded[name] for name in ("input_ids", "attention_mask")}).last_hidden_state[0]


def test_states_are_those_of_transformers_whatever_the_padding_and_the_batch(kind, folder, tokenizer, encoder):
    tokens = tokenizer.encode(TEXTS)
    lengths = (tokens != PADDING).sum(dim=1)
    assert lengths[2] == 0
    assert lengths[4] == LENGTH
    states = encoder.states(tokens[lengths > 0])
    assert states.dtype == torch.float16
    expected = torch.cat([_reference(kind, folder, text) for text in TEXTS if text])
    torch.testing.assert_close(states.float(), expected, rtol=2e-3, atol=2e-3)  # float16
    longer = torch.nn.functional.pad(tokens[:1], (0, 20))
    if kind == "t5":  # without a last position
        torch.testing.assert_close(encoder.states(longer), states[: lengths[0]])


def test_what_is_padded_changes_no_state(tokenizer, encoder):
    tokens = tokenizer.encode(TEXTS[:2])
    alone = [encoder.states(row[None]) for row in tokens]
    torch.testing.assert_close(encoder.states(tokens), torch.cat(alone), rtol=2e-3, atol=2e-3)


def test_the_tokenizer_is_that_of_the_folder_and_gives_the_captions_back(folder, tokenizer):
    theirs = AutoTokenizer.from_pretrained(folder)
    for text, row in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
        ids = theirs(text, truncation=True, max_length=LENGTH)["input_ids"] if text else []
        assert [one - 1 for one in row.tolist() if one != PADDING] == ids
    assert [text.lower() for text in tokenizer.decode(tokenizer.encode(TEXTS[:3]))] == [
        "a red square",
        "a blue bar",
        "",
    ]
    assert CaptionTokenizer(tokenizer.json, LENGTH) == tokenizer


def test_states_of_images_come_from_disk_and_those_of_other_captions_once_from_the_encoder(
    folder, tokenizer, encoder, tmp_path, monkeypatch
):
    tokens = tokenizer.encode(TEXTS)
    different = different_captions([tokens[:2], tokens[2:]])
    assert len(different) == 3
    (tmp_path / LATENT_TEXT).mkdir(parents=True)
    batches = [encoder.states(row[None]) for row in different]
    write_states(tmp_path / LATENT_TEXT, read_info(folder), different, batches)
    states = read_states(tmp_path, CPU)
    assert states is not None
    found = states(tokens)
    assert found.shape == (len(TEXTS), LENGTH, WIDTH)
    assert not found[tokens == PADDING].any()
    for row, state in zip(tokens, found, strict=True):
        if row.any():
            assert torch.equal(state[row != PADDING], encoder.states(row[None]))
    with pytest.raises(UserError, match=r"params.yaml is missing"):
        states(tokenizer.encode(["a red bar"]))
    (tmp_path / "params.yaml").write_text(f"text:\n  path: {folder}\n")
    others = tokenizer.encode(["a red bar", "a blue bar", "", "a red bar"])
    mixed = states(others)
    assert torch.equal(mixed[1], found[1])
    assert torch.equal(mixed[0], mixed[3])
    assert torch.equal(mixed[0][others[0] != PADDING], encoder.states(others[:1]))
    monkeypatch.setattr(PretrainedTextEncoder, "states", lambda *_: pytest.fail("encoded again"))
    assert torch.equal(states(others), mixed)
    assert states(others[:0]).shape == (0, LENGTH, WIDTH)


def test_another_encoder_of_the_same_kind_is_refused(kind, folder, tmp_path):
    WRITERS[kind][0](tmp_path, seed=1)
    with pytest.raises(
        UserError, match=rf"^text.path \(.*: {kind} \w{{12}}\) must be the text encoder that the denoiser"
    ):
        PretrainedTextEncoder(tmp_path, read_info(folder), CPU)


def _without(name: str):
    return lambda folder: [path.unlink() for path in folder.glob(name)]


def _without_a_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(min(tensors))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_without("config.json"), "config.json: FileNotFoundError"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "config.json: KeyError"),
        (_without("*.safetensors"), "no .safetensors file"),
        (_without("[tv]o*.json"), "no tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), ""),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"0" * 64), ""),
        (_without_a_weight, "no weights "),
    ],
)
def test_a_folder_that_is_no_text_encoder_is_refused_in_one_line(tmp_path, change, reason):
    folder = write_clip(tmp_path)
    change(folder)
    with pytest.raises(UserError, match=r"^text.path \(.*\) must be a folder of a CLIP or T5") as caught:
        info = read_info(folder)
        read_pretrained_tokenizer(folder, LENGTH)
        PretrainedTextEncoder(folder, info, CPU)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_captions_longer_than_the_positions_and_a_missing_package_are_refused(tmp_path, monkeypatch):
    folder = write_clip(tmp_path)
    with pytest.raises(
        UserError, match=rf"^text.length \(13\) must be at most {POSITIONS} for the encoder in text.path"
    ):
        require_text_encoder(folder, POSITIONS + 1)
    monkeypatch.setattr(pretrained_text, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^text.encoder \(pretrained\) needs the package transformers; `.*\[text\]'`"):
        require_text_encoder(folder, LENGTH)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_params) -> SmallRun:
    """Return a run on captioned pictures with a CLIP, up to its samples."""
    root = tmp_path_factory.mktemp("pretrained") / "run"
    settings = {"text.encoder": "pretrained", "text.path": "clip", "text.length": 8, "data.max_missing_captions": 0.5}
    run = captioned_run(root, write_params, **settings)
    write_clip(root / "clip")
    run.run("check_params", "download", "train_autoencoder", "encode_and_cache_latents", "train_denoiser", "sample")
    return run


@pytest.mark.usefixtures("machine")
def test_a_denoiser_trains_on_the_states_and_says_which_encoder_made_them(trained):
    checkpoint = load_checkpoint(trained.folder / DENOISER, kind="denoiser", made_by="")
    assert checkpoint.constructor["text"] == {"state_width": WIDTH, "length": 8, "width": 16}
    info = read_info(trained.folder / "clip")
    assert checkpoint.settings["text"]["encoder"] == {"kind": "clip", "sha256": info.sha256, "width": WIDTH}
    assert {name for name in checkpoint.tensors if name.startswith("text.")} == {
        *("text.null", "text.norm.weight", "text.norm.bias", "text.projection.weight", "text.projection.bias")
    }
    assert len(list((trained.folder / LATENT_TEXT).glob("states-*.safetensors"))) == 1
    prompts = json.loads((trained.folder / "data" / "generated" / "prompts.json").read_text())["prompts"]
    lines = (trained.folder / "data" / "prepared" / "captions-test.jsonl").read_text().splitlines()
    assert prompts == [json.loads(line).lower() for line in lines]


@pytest.mark.usefixtures("machine")
def test_prompts_run_the_encoder_and_padding_changes_no_prediction(trained):
    model = load(trained.folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.denoiser.network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)  # layers that start at zero take part
    one, other = (model.sample(2, prompt=prompt, steps=2) for prompt in ("a red bar with a square", "a blue bar"))
    assert not torch.allclose(one, other)
    away = model.sample(2, prompt="a blue bar", steps=2, guidance_scale=2.0, negative_prompt="a red square")
    assert not torch.allclose(away, model.sample(2, prompt="a blue bar", steps=2, guidance_scale=2.0))
    condition, empty = model.condition(prompt=["a blue bar", ""]), model.condition()
    garbage = condition._replace(tokens=condition.tokens.masked_fill(~condition.mask[:, :, None], 3.0))
    torch.testing.assert_close(model.sample(2, garbage, steps=2), model.sample(2, condition, steps=2))
    null = model.sample(1, empty, steps=2)
    torch.testing.assert_close(model.sample(1, model.condition(prompt=""), steps=2), null)
    torch.testing.assert_close(model.sample(1, condition.rows(slice(1)).null(), steps=2), null)


@pytest.mark.usefixtures("machine")
def test_prompts_of_the_settings_and_a_changed_encoder(trained, tmp_path):
    run = trained.copy(tmp_path / "copy")
    # A denoiser of so short a training hardly reads captions, and its early self still less.
    own = {"sample.guide": "own", "sample.guidance_scale": 20.0, "sample.guidance_end": 1.0}
    run.run("sample", **own)
    before = run.samples()["images"]
    prompts = {"sample.prompts": ["two red bars", "a green square"], "sample.negative_prompt": "a blue bar"}
    run.run("sample", **own, **prompts)
    assert not torch.equal(run.samples()["images"], before)
    write_clip(run.folder / "clip", seed=1)
    with pytest.raises(
        UserError, match=r"^text.path \(clip: clip \w+\) must be the text encoder that the denoiser was"
    ):
        run.run("sample", **{"sample.prompts": ["a red bar, not of the pictures"]})


@pytest.mark.usefixtures("machine")
def test_a_killed_encoder_continues_to_the_same_bytes(trained, tmp_path, monkeypatch, caplog):
    run = trained.copy(tmp_path / "copy")
    monkeypatch.chdir(run.folder)
    monkeypatch.setattr(captions_module, "_BATCH", 2)
    shutil.rmtree(run.folder / ".state", ignore_errors=True)
    params = TextParams(encoder="pretrained", path="clip", length=8)
    tokens = different_captions([read_pretrained_tokenizer(Path("clip"), 8).encode(["a", "red", "blue", "a red bar"])])
    whole = list(EncodedCaptions(params, {"train": "1"}, CPU, 1e9).pretrained.states(tokens))
    states, done = PretrainedTextEncoder.states, []

    def killed(self, batch):
        if done:
            raise RuntimeError("killed")
        done.append(1)
        return states(self, batch)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(PretrainedTextEncoder, "states", killed)
        list(EncodedCaptions(params, {"train": "2"}, CPU, 0).pretrained.states(tokens))
    with caplog.at_level(logging.INFO):
        again = EncodedCaptions(params, {"train": "2"}, CPU, 0)
        continued = list(again.pretrained.states(tokens))
    assert "resumed encode_and_cache_latents with 1 chunks" in caplog.messages
    assert torch.equal(torch.cat(continued), torch.cat(whole))
    again.finish()


@pytest.mark.usefixtures("machine")
@pytest.mark.slow  # seconds
def test_the_same_run_again_has_the_same_bytes(trained, tmp_path):
    run = trained.copy(tmp_path / "copy")
    shutil.rmtree(run.folder / ".state", ignore_errors=True)
    run.run("encode_and_cache_latents", "train_denoiser")
    names = [DENOISER, *(path.relative_to(trained.folder) for path in (trained.folder / LATENT_TEXT).iterdir())]
    assert [sha256_file(run.folder / name) for name in names] == [sha256_file(trained.folder / name) for name in names]
