"""Stage ``train_autoencoder``: learn pixels <-> latents."""
