"""The latent cache: write and read encoded_img, standardise latents and undo it."""
