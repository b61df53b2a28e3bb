"""Edits of latents: directions, and moves along them."""
