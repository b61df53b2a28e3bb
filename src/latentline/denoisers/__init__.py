"""Denoisers: networks that predict from noisy latents, their conditioning, guidance, and sampling with them."""
