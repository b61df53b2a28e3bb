"""The training loop and what it needs. Receives networks, losses and batches as arguments; knows no family of models."""
