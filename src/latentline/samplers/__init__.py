"""Samplers, their settings, and the moments of their samples.

Each sampler is a module with a pure function ``sampler(model, z, times, callback=None, **options) -> z``.
``model`` is a ``process.DenoiserModel``; ``z`` (B, ...) the state at ``times[0]``; ``times`` (K + 1,) the grid, from 1
to 0 to sample. ``callback(t, z)`` receives the state at every grid time, the first included. ``euler``, ``heun`` and
``ddim`` without noise also run upwards, from 0 to 1: see :mod:`latentline.diffusion.inversion`.

A sampler takes as keywords exactly the options that it uses. A stochastic one also takes ``noise_fn(step) -> (B,
...)``: standard normal noise for each step, counted from 0. The caller draws it per image, so that an image does not
depend on its batch. ``registry`` returns any of them by name with its options bound.
"""
