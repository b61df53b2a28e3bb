"""Edits of latents: what images are to become, directions, moves along them, mixtures."""
