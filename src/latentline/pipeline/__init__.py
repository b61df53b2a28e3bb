"""Deprecated location of ``latentline.load``, which version 0.3 removes."""
