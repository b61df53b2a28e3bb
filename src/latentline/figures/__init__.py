"""Figures: arrays to image files; equal arrays give equal bytes."""
