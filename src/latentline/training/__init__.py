"""The training loop and what it needs; networks, losses and batches are its arguments."""
