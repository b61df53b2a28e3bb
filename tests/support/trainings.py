"""Trainings of the stages, on any device: each trains in the current folder, whose earlier stages have run."""

import torch

from latentline.core.load_params import load
from latentline.core.paths import PREPARED
from latentline.data.store import read_card, read_split
from latentline.latents.cache import read_stats
from latentline.runtime.parallel import SINGLE_PROCESS
from latentline.training.config import saving_of
from latentline.training.loop import Saving
from stages.train_autoencoder import train as autoencoder_training
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_denoiser import train as denoiser_training
from stages.train_denoiser.latents import read_split as read_latents
from stages.train_denoiser.params import DenoiserParams
from stages.train_feature_extractor import train as extractor_training
from stages.train_feature_extractor.params import FeatureExtractorParams

DISCRIMINATOR = {
    "autoencoder.adversarial.weight": 0.1,
    "autoencoder.adversarial.channels": 8,
    "autoencoder.adversarial.start_step": 0,
    "autoencoder.adversarial.warmup_steps": 0,
}
VARIANCE_PRESERVING = {
    "denoiser.process.path": "vp_linear",
    "denoiser.process.prediction": "v",
    "sample.sampler": "euler",
}
ONE_EPOCH = {"autoencoder.epochs": 1, "denoiser.epochs": 1, "feature_extractor.epochs": 1}


def train_extractor(device: torch.device) -> None:
    params, seed, compute = load("feature_extractor", FeatureExtractorParams)
    card, train, val = read_card(PREPARED), read_split(PREPARED, "train"), read_split(PREPARED, "val")
    extractor = extractor_training.build(params, card, train.labels.values, seed, device)
    training, saving = (
        extractor_training.training_of(params),
        extractor_training.saving_for(params, card, seed, compute),
    )
    extractor_training.train(
        extractor, card.schema, train, val, training, device=device, seed=seed, saving=saving, ranks=SINGLE_PROCESS
    )


def train_autoencoder(device: torch.device) -> None:
    params, seed, compute = load("autoencoder", AutoencoderParams)
    card = read_card(PREPARED)
    network, trained_on = autoencoder_training.build_initial(params, card, device, seed, SINGLE_PROCESS)
    context = autoencoder_training.TrainingContext(params, card, trained_on, device, seed, compute, SINGLE_PROCESS)
    autoencoder_training.train_autoencoder(network, context, context.saving("autoencoder"), params.epochs)


def train_denoiser(device: torch.device) -> None:
    params, seed, compute = load("denoiser", DenoiserParams)
    stats = read_stats()
    denoiser, _ = denoiser_training.build(params, stats, seed, device, SINGLE_PROCESS)
    splits = {name: read_latents(name, stats, denoiser.conditioning, device) for name in ("train", "val")}
    saving: Saving = saving_of("train_denoiser", {}, {}, compute, computed_by=["stages.train_denoiser.train"])
    denoiser_training.train(denoiser, params, splits, seed, saving, SINGLE_PROCESS, lambda denoiser, epoch: None)
