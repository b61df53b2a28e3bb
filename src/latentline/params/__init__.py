"""The knobs: one module and one frozen model per section of params.yaml, so that a stage depends only on its own.

``load.py`` reads and validates; ``schema.py`` knows the whole file and the rules across sections. No torch here.
"""
