"""Stage ``train_latent_classifiers``: fit linear probes of the latents."""
