"""Stage ``train_latent_classifiers``: linear probes of the latents."""
