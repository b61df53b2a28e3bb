"""Edits of latents: targets, directions, shifts along them, mixtures."""
