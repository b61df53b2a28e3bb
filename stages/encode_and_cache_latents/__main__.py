"""Stage ``encode_and_cache_latents``: encode every image once, so that no later stage runs the encoder."""

from pathlib import Path

from latentline.autoencoders.load import load_autoencoder
from latentline.core.load_params import load
from latentline.core.paths import FIGURES, LATENT_EXPORT, PREPARED
from latentline.core.stage import run_stage
from latentline.data.captions import read_captions
from latentline.data.store import read_card
from latentline.latents.cache import read_latents
from latentline.latents.tokens import write_tokens
from latentline.runtime.resumable_map import resumable_map
from latentline.runtime.start import start
from stages.encode_and_cache_latents.captions import EncodedCaptions
from stages.encode_and_cache_latents.encode import encode_splits, resume_file
from stages.encode_and_cache_latents.export import export_latents, require_exportable
from stages.encode_and_cache_latents.params import LatentsParams
from stages.encode_and_cache_latents.report import draw_figures
from stages.encode_and_cache_latents.text_params import TextParams


def main() -> None:
    """Read sections ``latents`` and ``text``, data/prepared and checkpoints/autoencoder.

    Write encoded_img and fig/latents.
    """
    params, seed, compute = load("latents", LatentsParams)
    text, _, _ = load("text", TextParams)
    device, ranks = start(compute)
    trained, card = load_autoencoder(device), read_card(PREPARED)
    if params.export:
        require_exportable(params.export, card, trained.network.latent_shape)
    captions = {name: read_captions(PREPARED, name) for name in card.counts}
    present = {name: texts for name, texts in captions.items() if texts is not None}
    encoder = None
    if present and text.encoder == "pretrained":
        encoder = EncodedCaptions(text, card.captions, device, compute.save_every_seconds)
    state = resume_file(params, seed, trained, card)
    with resumable_map(state, compute.save_every_seconds, ranks) as chunks:
        stats = encode_splits(params, seed, trained, card, chunks)
    test = read_latents("test")
    pretrained = None if encoder is None else encoder.pretrained
    write_tokens(Path(), present or None, text.vocabulary_size, text.length, test.labels, pretrained)
    export_latents(LATENT_EXPORT, {name: read_latents(name) for name in card.counts}, stats, params.export)
    draw_figures(FIGURES / "latents", test.latents, stats)
    state.finish()
    if encoder is not None:
        encoder.finish()


if __name__ == "__main__":
    run_stage("encode_and_cache_latents", main)
