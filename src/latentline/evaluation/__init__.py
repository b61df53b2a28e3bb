"""Metrics of arrays: agreement of labels, quality of reconstructions. Imports neither files nor models."""
