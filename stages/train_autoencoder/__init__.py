"""Stage ``train_autoencoder``: train the autoencoder, pixels <-> latents."""
