"""The model in a browser (``make explore``): sample, edit, interpolate, map, repair, compare; no stage imports it.

``sampling``, ``editing``, ``interpolation``, ``latent_map``, ``repair`` and ``compare`` compute: tensors in, images
out, without Gradio. ``tabs`` has one module of Gradio for each, and ``app`` joins them.
"""
