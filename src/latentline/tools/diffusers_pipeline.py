"""Draw images with a latent diffusion model of Latentline, in diffusers.

from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True)
pipe(8, seed=0).images
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, ModelMixin
from torch import Tensor

from latentline.autoencoders.load import noise_for_index
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.inputs import require_integer
from latentline.core.labels import LabelTable, class_names, schema_from_json
from latentline.core.seeds import start_noise
from latentline.data.store import to_uint8
from latentline.denoisers.condition_values import condition_of
from latentline.denoisers.conditioning import Conditioning
from latentline.denoisers.load import Denoiser
from latentline.denoisers.sampling import model_under
from latentline.diffusion.process import build_process
from latentline.latents.normalizer import Normalizer
from latentline.latents.tokenizer import PADDING
from latentline.samplers.settings import SamplingSettings

_OUTPUTS = ("pil", "np", "pt", "latent")


class LatentlinePipeline(DiffusionPipeline):  # type: ignore[misc]
    """Autoencoder, denoiser and sampler, which draw the images that Latentline itself draws.

    Args:
        vae: the autoencoder.
        denoiser: the network that predicts from noisy latents.
        tokenizer: of captions; None = the denoiser is not conditioned on captions.
        text_encoder: pretrained CLIP or T5; None = the denoiser reads the tokens itself.
        guide: weaker denoiser that guidance leads away from; None = the denoiser itself, without its condition.
        moments: maps of samples that are drawn with the sampler, steps and guidance of the settings; None = no maps.
        settings: process, sampler, labels and shapes, as in model_index.json.
    """

    _optional_components = ["tokenizer", "text_encoder", "guide", "moments"]  # noqa: RUF012 - as diffusers expects it

    def __init__(
        self,
        vae: ModelMixin,
        denoiser: ModelMixin,
        tokenizer: Any = None,
        text_encoder: Any = None,
        guide: Any = None,
        moments: Any = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for network in (vae, denoiser, text_encoder, guide, moments):
            if network is not None:
                network.float()  # ours compute in it or in autocast's type, and T5 overflows in float16
        captions = {"tokenizer": tokenizer, "text_encoder": text_encoder}
        self.register_modules(vae=vae, denoiser=denoiser, **captions, guide=guide, moments=moments)
        self.register_to_config(settings=settings)

    @torch.no_grad()
    def __call__(
        self,
        num_images: int | None = None,
        condition: Mapping[str, Any] | None = None,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
    ) -> Any:
        """Draw images; without arguments, one.

        Image i follows from the seed and i alone, as in Latentline's stage ``sample``. With other steps or guidance
        than those of the settings, latents do not get the moments of the training latents.

        Args:
            num_images: how many; None = one for each value of the condition.
            condition: every label by name, one value or one for each image. None = the classes in turn, with other
                labels unknown.
            prompt: a caption, or one for each image.
            negative_prompt: caption that guidance leads away from; None = that of the settings.
            num_inference_steps: of the sampler; None = that of the settings, and so for the next two.
            guidance_scale: of classifier-free guidance; 1 = off.
            seed: of the noise.
            latents: noise to start from, (N, *latent_shape), in place of the seed's.
            output_type: pil, np (N, H, W, C) in [0, 1], pt (N, C, H, W) in [0, 1], or latent (standardised latents).

        Returns:
            ``ImagePipelineOutput``, whose ``images`` are the images.

        Raises:
            ValueError: an argument has an impossible value.
        """
        settings = self.config.settings
        if output_type not in _OUTPUTS:
            raise UserError(f"output_type ({output_type}) must be one of {', '.join(_OUTPUTS)}; correct it")
        values = {**(condition or {}), **({} if prompt is None else {"prompt": prompt})}
        count = num_images if latents is None else len(latents)
        if count is not None:
            require_integer("num_images", count, 1)
        if num_images not in (None, count):
            raise UserError(f"num_images ({num_images}) must be {count}, the number of latents; leave it out")
        denoiser = self._trained()
        chosen, shape = _condition_of(denoiser.conditioning, values, count), denoiser.latent_shape
        indices = torch.arange(chosen.size)
        seed = settings["seed"] if seed is None else seed
        noise = start_noise(seed, "sample", indices, shape) if latents is None else latents
        if tuple(noise.shape) != (len(indices), *shape):
            raise UserError(f"latents {tuple(noise.shape)} must have the shape {(len(indices), *shape)}; correct them")
        noise = noise.to(self.device, torch.float32)

        def noise_fn(step: int) -> Tensor:
            return start_noise(seed, f"sample/step {step}", indices, shape).to(noise)

        changes = {
            "steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "negative_prompt": negative_prompt,
        }
        given = {name: value for name, value in changes.items() if value is not None}
        sampling = SamplingSettings(**{**settings["sampling"], **given})
        require_integer("num_inference_steps", sampling.steps, 1)
        config = sampling.config(denoiser)
        away_from = None
        if config.negative is not None:  # with the labels of the images
            captioned = denoiser.conditioning.of_captions(config.negative).expanded(chosen.size)
            away_from = captioned._replace(vector=chosen.vector).to(self.device)
        model = model_under(denoiser, chosen.to(self.device), config.guidance, away_from)
        z0 = config.sampler(noise_fn)(model, noise, config.times)
        if self.moments is not None and sampling == SamplingSettings(**settings["sampling"]):
            z0 = self.moments(z0, chosen.to(self.device))
        images = z0 if output_type == "latent" else self._decoded(z0, indices, output_type)
        return ImagePipelineOutput(images=images)

    def _trained(self) -> Denoiser:
        """Return the denoiser as Latentline has it after loading."""
        settings = self.config.settings
        captions = None if self.tokenizer is None else self.tokenizer.captions
        states = None if self.text_encoder is None else _States(self.text_encoder)
        attributes = schema_from_json(settings["attributes"])
        conditioning = Conditioning(attributes, captions, cast(Any, states))  # which has what it uses of CaptionStates
        process, shape = build_process(**settings["process"]), tuple(settings["latent_shape"])
        return Denoiser(self.denoiser, process, conditioning, shape, self.device, self.guide)

    def _decoded(self, z0: Tensor, indices: Tensor, output_type: str) -> Any:
        """Return the images of standardised latents (N, *latent_shape)."""
        settings, config = self.config.settings, self.vae.config
        per_channel = (-1, *[1] * (z0.ndim - 2))
        mean, std = (torch.tensor(config[name]).reshape(per_channel) for name in ("latents_mean", "latents_std"))
        raw, noise = Normalizer(mean, std).restore(z0), settings["decoder_noise_shape"]
        drawn = () if noise is None else (noise_for_index(tuple(noise), indices).to(raw),)
        height, width = settings["image_shape"][1:]
        pixels = self.vae.decode(raw, *drawn).sample[..., :height, :width]
        images = to_uint8(pixels).float() / 255
        if output_type == "pt":
            return images
        arrays = images.permute(0, 2, 3, 1).cpu().numpy()  # (N, H, W, C)
        return arrays if output_type == "np" else self.numpy_to_pil(arrays)


def _condition_of(conditioning: Conditioning, values: Mapping[str, Any], count: int | None) -> Condition:
    """Return the condition of ``count`` images, on the CPU."""
    if not values and class_names(conditioning.attributes):
        rows = torch.full((1 if count is None else count, len(conditioning.attributes)), torch.nan)
        rows[:, 0] = torch.arange(len(rows)) % len(class_names(conditioning.attributes))
        return conditioning.encode(LabelTable(conditioning.attributes, rows))
    found = condition_of(conditioning, values)
    if count is not None and found.size not in (1, count):
        raise UserError(f"num_images ({count}) must be {found.size}, one for each value; leave it out")
    return found.expanded(found.size if count is None else count)


class _States:
    """Map the tokens of captions to the states of a pretrained encoder.

    Args:
        encoder: of transformers, in float32.
    """

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return float16 (B, L, D) of tokens (B, L), both on the CPU; zeros for padding."""
        states, mask = self.padding(*tokens.shape), tokens != PADDING
        if (filled := mask.any(dim=1)).any():
            ids, attended = (tokens[filled] - 1).clamp(min=0).long(), mask[filled].long()
            device = self._encoder.device
            output = self._encoder(input_ids=ids.to(device), attention_mask=attended.to(device)).last_hidden_state
            states[mask] = output[attended.bool().to(device)].to(states)
        return states

    def padding(self, count: int, length: int) -> Tensor:
        """Return the states (``count``, L, D) of empty captions."""
        config = self._encoder.config
        return torch.zeros(count, length, getattr(config, "d_model", None) or config.hidden_size, dtype=torch.float16)
