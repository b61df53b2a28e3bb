"""The settings: a frozen model per section of params.yaml, each in its own module, so that a stage depends on its own.

``load.py`` reads and validates; ``schema.py`` joins all sections and has the rules across them. The models of the
sections import no torch; ``schema.py`` does, through ``diffusion``, so ``load.py`` imports it by name and only when it
validates.
"""
