"""Stage ``manipulate``: edit images along directions of the latents."""
