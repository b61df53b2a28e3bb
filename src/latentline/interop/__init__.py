"""Weights and folders of other libraries, read and written."""
