"""Stage ``encode_and_cache_latents``: encode every image once."""
