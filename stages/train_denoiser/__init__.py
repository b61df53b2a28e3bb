"""Stage ``train_denoiser``: learn to denoise the cached latents."""
