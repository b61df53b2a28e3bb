"""Denoisers: networks that predict from noisy latents, what they are conditioned on, guidance, and drawing with them."""
