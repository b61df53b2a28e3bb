"""The floor under every package: errors, whole-file writes, seeds. Imports nothing of latentline."""
