"""The whole of params.yaml, and the rules across sections.

No stage but ``check_params`` imports this file: ``load_params.py`` loads it by name, because it can only refuse a run,
never change its results. So a new setting of one stage re-runs no other stage.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from latentline.core.compute_params import ComputeParams
from latentline.core.errors import UserError
from latentline.core.labels import Schema, class_names
from latentline.core.params import NO_PROMPTS, Section
from latentline.denoisers.conditioning import require_conditions
from latentline.diffusion.flow_map import FlowMap
from latentline.diffusion.process import PATHS, require_compatible
from latentline.diffusion.time_grid import build_time_grid
from latentline.editing.targets import all_targets, require_names
from latentline.samplers.registry import require_serves
from latentline.samplers.settings import SamplingSettings
from latentline.training.params import OptimizerParams
from stages.download.params import DataParams
from stages.encode_and_cache_latents.params import LatentsParams
from stages.encode_and_cache_latents.text_params import TextParams
from stages.evaluate.params import EvaluateParams
from stages.manipulate.params import ManipulateParams
from stages.sample.params import SampleParams
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_denoiser.params import DenoiserParams
from stages.train_feature_extractor.params import FeatureExtractorParams
from stages.train_latent_classifiers.params import LatentClassifiersParams


class Params(Section):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of all random numbers."""
    data: DataParams = DataParams()
    """The images and their preparation."""
    autoencoder: AutoencoderParams = AutoencoderParams()
    """Images to latents and back; see docs/autoencoders.md."""
    latents: LatentsParams = LatentsParams()
    """The cache of encoded images."""
    text: TextParams = TextParams()
    """Tokens of the captions, where the images have any; see docs/text.md."""
    denoiser: DenoiserParams = DenoiserParams()
    """The diffusion model of the latents; see docs/denoisers.md."""
    sample: SampleParams = SampleParams()
    """Drawing images; see docs/diffusion.md."""
    feature_extractor: FeatureExtractorParams = FeatureExtractorParams()
    """The network of the metrics, which no other stage trains on; see docs/evaluation.md."""
    latent_classifiers: LatentClassifiersParams = LatentClassifiersParams()
    """Linear probes of the latents, one per class or attribute."""
    manipulate: ManipulateParams = ManipulateParams()
    """Edits of images through their latents; see docs/editing.md."""
    evaluate: EvaluateParams = EvaluateParams()
    """Metrics of samples and reconstructions; see docs/evaluation.md."""
    compute: ComputeParams = ComputeParams()
    """Where the stages run; no stage depends on this section."""

    def require_images(self, counts: Mapping[str, int], schema: Schema, captions: bool) -> None:
        """Refuse settings that need more images or other labels than there are, before anything is trained on them.

        Args:
            counts: images of each split.
            schema: of the labels; empty = no labels.
            captions: whether the images have captions.

        Raises:
            UserError: see above. A split of one image is no reason, since no setting can help; its scores are null.
        """
        classes, neighbours = class_names(schema), self.evaluate.neighbours
        several = [name for name in ("train", "test") if counts[name] > 1]
        if several and neighbours >= counts[split := min(several, key=counts.__getitem__)]:
            raise UserError(
                f"evaluate.neighbours ({neighbours}) must be less than the {counts[split]} images of split {split}; "
                "lower it, or prepare more images (data.limit, data.splits)"
            )
        require_conditions(self.denoiser.condition, schema, captions=captions)
        self._require_captions(captions)
        for wanted, setting, off in (
            (self.evaluate.bayes.count, "evaluate.bayes.count", 0),
            (self.evaluate.classification_accuracy_score, "evaluate.classification_accuracy_score", "false"),
        ):
            if wanted and not classes:
                raise UserError(
                    f"{setting} ({str(wanted).lower()}) must be {off} for images without class labels; "
                    f"set it to {off}, or label the images"
                )
        edits, count = self.manipulate, counts["test"]
        if edits.images is not None and max(edits.images) >= count and not any(Path(edits.files).glob("[!.]*")):
            raise UserError(
                f"manipulate.images ({max(edits.images)}) must be from 0 to {count - 1}, the test images; "
                "correct the index"
            )
        if self.manipulate.source_class is not None:
            require_names("manipulate.source_class", [self.manipulate.source_class], classes)
        if self.manipulate.target_names:
            names = [target.name for target in all_targets(schema)]
            require_names("manipulate.target_names", self.manipulate.target_names, names)

    def _require_captions(self, captions: bool) -> None:
        """Refuse prompts without captions, and captions that a network has no layer or no whole batch for."""
        name, value, default = self._first_prompt()
        if name and not captions:
            raise UserError(
                f"{name} ({value!r:.40}) must be {default!r} for images without captions; set it so, or add captions "
                "(docs/text.md)"
            )
        denoiser = self.denoiser
        reads = denoiser.condition in ("all", "text") and captions
        if reads and denoiser.name == "unet" and not denoiser.attention_levels:
            raise UserError(
                "denoiser.attention_levels ([]) must name a level for a unet that is conditioned on captions; "
                f"set it to [{len(denoiser.channels) - 1}], or denoiser.condition to class or none"
            )
        if captions and (accumulate := self.feature_extractor.optimizer.accumulate) > 1:
            raise UserError(
                f"feature_extractor.optimizer.accumulate ({accumulate}) must be 1 for images with captions, since the "
                "loss compares all captions of a batch; set it to 1, and lower the batch_size where memory is short"
            )

    def _first_prompt(self) -> tuple[str, object, object]:
        """Return name, value and default of the first setting that gives a prompt; an empty name = none does."""
        name, value = self.sample.first_prompt
        if name:
            return f"sample.{name}", value, SampleParams().model_dump()[name]
        return ("manipulate.prompts", self.manipulate.prompts, []) if self.manipulate.prompts else ("", None, None)

    @model_validator(mode="after")
    def _prompts_are_used(self) -> "Params":
        name, value, default = self._first_prompt()
        if name and self.denoiser.condition in ("class", "none"):
            raise ValueError(
                f"{name} ({value!r:.40}) must be {default!r} while denoiser.condition is {self.denoiser.condition}; "
                "set it so, or denoiser.condition to all or text"
            )
        if (prompts := self.manipulate.prompts) and (len(prompts) != 2 or prompts[0] == prompts[1]):
            raise ValueError(f"manipulate.prompts ({prompts!r:.60}) must be two different captions, or []; correct it")
        if self.sample.prompts and self.sample.prompts_file != NO_PROMPTS:
            raise ValueError(
                f"sample.prompts_file ({self.sample.prompts_file}) must be {NO_PROMPTS} while sample.prompts has "
                "captions; set it so, or sample.prompts to []"
            )
        return self

    @model_validator(mode="after")
    def _latents_fit_the_denoiser(self) -> "Params":
        levels = len(self.denoiser.channels)
        if bad := [level for level in self.denoiser.attention_levels if level >= levels]:
            raise ValueError(
                f"denoiser.attention_levels ({self.denoiser.attention_levels}) must be numbers from 0 to {levels - 1}, "
                f"the levels of denoiser.channels; take {bad[0]} out"
            )
        vectors = self.autoencoder.makes_vectors
        if vectors != (self.denoiser.name == "mlp"):
            expected = "mlp for latents that are vectors" if vectors else "unet or dit for latents that are maps"
            raise ValueError(
                f"denoiser.name ({self.denoiser.name}) must be {expected}; change the name, "
                "or autoencoder.latent_dim (null = maps; a diffae always has vectors)"
            )
        return self

    @model_validator(mode="after")
    def _sampling_fits_the_process(self) -> "Params":
        process, sample, diffae = self.denoiser.process, self.sample, self.autoencoder.diffae
        averages = self.denoiser.objective == "flow_map"
        for section, check in (
            ("autoencoder.diffae", lambda: require_compatible(diffae.path, diffae.prediction)),
            ("denoiser.process", lambda: require_compatible(process.path, process.prediction)),
            ("sample", lambda: require_serves(sample.sampler, process.path, process.prediction, averages=averages)),
            ("sample", lambda: build_time_grid(sample.time_grid, sample.steps, PATHS[process.path], sample.time_shift)),
        ):
            try:
                check()
            except UserError as error:
                raise ValueError(f"{section}.{error}") from None
        if sample.sampler == "flow_map":
            try:
                SamplingSettings.of(sample).require_learnt(FlowMap(**self.denoiser.flow_map.guidance()), "sample.")
            except UserError as error:
                raise ValueError(str(error)) from None
        inner = self.autoencoder.name == "diffae"
        length, setting = (
            (diffae.embedding_dim, "diffae.embedding_dim") if inner else (self.autoencoder.latent_dim, "latent_dim")
        )
        if self.autoencoder.makes_vectors and length == 1 and sample.guidance_rescale > 0:
            raise ValueError(
                f"sample.guidance_rescale ({sample.guidance_rescale}) must be 0 while autoencoder.{setting} is 1, "
                f"since one value has no standard deviation; set it to 0, or autoencoder.{setting} above 1"
            )
        if sample.guidance_start > sample.guidance_end:
            raise ValueError(
                f"sample.guidance_start ({sample.guidance_start}) must be at most sample.guidance_end "
                f"({sample.guidance_end}); lower it, or raise sample.guidance_end"
            )
        return self

    @model_validator(mode="after")
    def _scores_can_be_computed(self) -> "Params":
        images = {
            "sample.count": self.sample.count,
            "evaluate.pair_count": self.evaluate.pair_count,
            "evaluate.max_images": self.evaluate.max_images or self.sample.count,
        }
        setting = min(images, key=images.__getitem__)
        if self.evaluate.neighbours >= images[setting]:
            raise ValueError(
                f"{setting} ({images[setting]}) must be above evaluate.neighbours ({self.evaluate.neighbours}); "
                f"raise {setting} or lower evaluate.neighbours"
            )
        score = self.evaluate.classification_accuracy_score
        for wanted, setting, value, off in (
            (self.evaluate.bayes.count > 0, "evaluate.bayes.count", self.evaluate.bayes.count, "0"),
            (score, "evaluate.classification_accuracy_score", "true", "false"),
        ):
            if wanted and self.denoiser.condition in ("text", "none"):
                expected = f"{off} while denoiser.condition is {self.denoiser.condition}"
                raise ValueError(f"{setting} ({value}) must be {expected}; set it so, or denoiser.condition to class")
        return self

    @model_validator(mode="after")
    def _edits_and_guidance_make_sense(self) -> "Params":
        for name in ("strengths", "prompt_strengths"):
            strengths = getattr(self.manipulate, name)
            if strengths != sorted(strengths):
                raise ValueError(f"manipulate.{name} ({strengths}) must be in ascending order; sort it")
        for guidance_scale, setting in (
            (self.sample.guidance_scale, "sample.guidance_scale"),
            (self.denoiser.preview.guidance_scale, "denoiser.preview.guidance_scale"),
            (self.manipulate.renoise_guidance_scale, "manipulate.renoise_guidance_scale"),
        ):
            if guidance_scale != 1 and self.denoiser.label_dropout == 0:
                raise ValueError(
                    f"{setting} ({guidance_scale}) must be 1 while denoiser.label_dropout is 0; "
                    "set it to 1, or denoiser.label_dropout above 0 (0.1 is usual)"
                )
        return self

    @model_validator(mode="after")
    def _optimizers_make_sense(self) -> "Params":
        processes = self.compute.devices * self.compute.nodes
        for section in ("autoencoder", "denoiser", "feature_extractor"):
            params: OptimizerParams = getattr(self, section).optimizer
            name = f"{section}.optimizer"
            if params.milestones != sorted(set(params.milestones)):
                raise ValueError(f"{name}.milestones ({params.milestones}) must be ascending, each once; sort it")
            if processes > params.batch_size:
                raise ValueError(
                    f"compute.devices ({self.compute.devices}) x compute.nodes ({self.compute.nodes}) must be at most "
                    f"{name}.batch_size ({params.batch_size}); lower compute.devices or raise the batch size"
                )
            if params.accumulate > params.batch_size:
                expected = f"at most {name}.batch_size ({params.batch_size})"
                raise ValueError(f"{name}.accumulate ({params.accumulate}) must be {expected}; lower it")
        return self

    @model_validator(mode="after")
    def _adversarial_training_is_possible(self) -> "Params":
        if not self.autoencoder.adversarial.weight:
            return self
        remedy = "or set autoencoder.adversarial.weight to 0"
        if self.compute.devices * self.compute.nodes > 1 and self.compute.strategy == "fsdp":
            raise ValueError(
                "compute.strategy (fsdp) must be ddp while autoencoder.adversarial.weight is above 0, since the "
                f"adaptive weight needs one layer whole at every step; set it to ddp, {remedy}"
            )
        if (accumulate := self.autoencoder.optimizer.accumulate) > 1:
            raise ValueError(
                f"autoencoder.optimizer.accumulate ({accumulate}) must be 1 while autoencoder.adversarial.weight is "
                f"above 0, since the adaptive weight is computed once per step; set it to 1, {remedy}"
            )
        return self
