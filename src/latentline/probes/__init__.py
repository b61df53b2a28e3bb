"""Linear probes of the latents."""
