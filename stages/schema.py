"""The whole of params.yaml, and the rules across sections.

No stage imports this file: it is loaded by name (``load.py``), because it can only refuse a run, never change what one
computes. A new knob of one stage therefore re-runs no other.
"""

from pydantic import Field, model_validator

from latentline.core.compute_params import ComputeParams
from latentline.core.errors import UserError
from latentline.core.params import Section
from latentline.diffusion.process import PATHS, require_compatible
from latentline.diffusion.time_grid import build_time_grid
from latentline.samplers.registry import require_serves
from latentline.training.params import OptimizerParams
from stages.download.params import DataParams
from stages.encode_and_cache_latents.params import LatentsParams
from stages.evaluate.params import EvaluateParams
from stages.manipulate.params import ManipulateParams
from stages.sample.params import SampleParams
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_denoiser.params import DenoiserParams
from stages.train_feature_extractor.params import FeatureExtractorParams
from stages.train_latent_classifiers.params import LatentClassifiersParams


class Params(Section):
    """params.yaml."""

    seed: int = Field(ge=0, lt=2**32)
    data: DataParams
    autoencoder: AutoencoderParams
    latents: LatentsParams
    denoiser: DenoiserParams
    sample: SampleParams
    feature_extractor: FeatureExtractorParams
    latent_classifiers: LatentClassifiersParams
    manipulate: ManipulateParams
    evaluate: EvaluateParams
    compute: ComputeParams

    @model_validator(mode="after")
    def _sections_fit_together(self) -> "Params":
        levels = len(self.denoiser.channels)
        for level in self.denoiser.attention_levels:
            if level >= levels:
                raise ValueError(
                    f"denoiser.attention_levels: {level} is no level; expected numbers below {levels}, counted from 0, as denoiser.channels has "
                    "so many; take it out"
                )
        vectors = self.autoencoder.makes_vectors
        if vectors != (self.denoiser.name == "mlp"):
            latents, fitting = ("vectors (autoencoder.latent_dim, or diffae)", "mlp") if vectors else ("maps", "unet or dit")
            raise ValueError(f"denoiser.name: {self.denoiser.name} is not made for latents that are {latents}; expected {fitting}; change it")
        self._sampling_fits_the_process()
        most = self.evaluate.max_images or self.sample.count
        seen = {"sample.count": self.sample.count, "evaluate.pair_count": self.evaluate.pair_count, "evaluate.max_images": most}
        knob = min(seen, key=seen.__getitem__)
        if self.evaluate.neighbours >= seen[knob]:
            raise ValueError(
                f"{knob}: {seen[knob]} images, but evaluate.neighbours is {self.evaluate.neighbours}; expected more images than neighbours; "
                f"raise {knob} or lower evaluate.neighbours"
            )
        for wanted, knob, off in (
            (self.evaluate.bayes.count, "evaluate.bayes.count: above 0", 0),
            (self.evaluate.classification_accuracy_score, "evaluate.classification_accuracy_score: true", "false"),
        ):
            if wanted and self.denoiser.condition == "none":
                raise ValueError(f"{knob}, but the denoiser is told no class (denoiser.condition: none); set that to class or all, or this to {off}")
        if self.manipulate.strengths != sorted(self.manipulate.strengths):
            raise ValueError(f"manipulate.strengths: {self.manipulate.strengths} is out of order; expected ascending numbers; sort it")
        for guided, knob in (
            (self.sample.guidance_scale, "sample.guidance_scale"),
            (self.denoiser.preview.guidance_scale, "denoiser.preview.guidance_scale"),
            (self.manipulate.renoise_guidance_scale, "manipulate.renoise_guidance_scale"),
        ):
            if guided != 1 and self.denoiser.label_dropout == 0:
                raise ValueError(f"{knob}: {guided} with denoiser.label_dropout 0; expected one above 0 (0.1 is usual); raise it, or set {knob} to 1")
        return self

    @model_validator(mode="after")
    def _optimizers_make_sense(self) -> "Params":
        processes = self.compute.devices * self.compute.nodes
        for section in ("autoencoder", "denoiser", "feature_extractor"):
            knobs: OptimizerParams = getattr(self, section).optimizer
            if knobs.milestones != sorted(set(knobs.milestones)):
                raise ValueError(
                    f"{section}.optimizer.milestones: {knobs.milestones} is out of order; expected epochs in ascending order, each once; sort it"
                )
            if processes > knobs.batch_size:
                raise ValueError(
                    f"compute.devices: {self.compute.devices} and compute.nodes: {self.compute.nodes} make {processes} processes, for whom a batch "
                    f"of {section}.optimizer.batch_size, {knobs.batch_size}, has too few rows; expected at most as many; lower one, or raise that"
                )
            if knobs.accumulate > knobs.batch_size:
                raise ValueError(
                    f"{section}.optimizer.accumulate: {knobs.accumulate} parts are too many; expected at most "
                    f"{section}.optimizer.batch_size, {knobs.batch_size}; lower it"
                )
        if self.autoencoder.adversarial.weight and processes > 1 and self.compute.strategy == "fsdp":
            raise ValueError(
                f"compute.strategy: fsdp divides the weights among {processes} processes, but autoencoder.adversarial needs one of them whole at "
                "every step; expected ddp; set it, or set autoencoder.adversarial.weight to 0"
            )
        if self.autoencoder.adversarial.weight and self.autoencoder.optimizer.accumulate > 1:
            raise ValueError(
                f"autoencoder.optimizer.accumulate: {self.autoencoder.optimizer.accumulate} parts cannot be judged one by one, since "
                "autoencoder.adversarial balances its term once per step; expected 1; set it, or set autoencoder.adversarial.weight to 0"
            )
        return self

    def _sampling_fits_the_process(self) -> None:
        process, sample, diffae = self.denoiser.process, self.sample, self.autoencoder.diffae
        for section, check in (
            ("autoencoder.diffae", lambda: require_compatible(diffae.path, diffae.prediction)),
            ("denoiser.process", lambda: require_compatible(process.path, process.prediction)),
            ("sample", lambda: require_serves(sample.sampler, process.path, process.prediction)),
            ("sample", lambda: build_time_grid(sample.time_grid, sample.steps, PATHS[process.path], sample.time_shift)),
        ):
            try:
                check()
            except UserError as error:
                raise ValueError(f"{section}.{error}") from None
        if sample.guidance_start > sample.guidance_end:
            raise ValueError(
                f"sample.guidance_start: {sample.guidance_start} is above sample.guidance_end, {sample.guidance_end}; expected the smallest t "
                "that is guided, and then the largest; change one"
            )
