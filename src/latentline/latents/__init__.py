"""The latent cache: encoded_img on disk, and the standardisation of latents."""
