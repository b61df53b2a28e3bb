"""Samplers, one module each: pure functions ``sampler(model, z, times, on_step=None, **knobs) -> z``.

``model`` is a ``process.DenoiserModel``; ``z`` (B, ...) the state at ``times[0]``; ``times`` (K + 1,) the grid, from 1 to 0 to sample.
``euler``, ``heun`` and ``ddim`` without noise also run upwards, from 0 to 1: see ``inversion``. ``on_step(t, z)`` sees the state at
every grid time, the first included.

A sampler takes as keywords exactly the knobs it uses, and a stochastic one ``draw_noise(step) -> (B, ...)``: standard normal noise for
each step, counted from 0. Whoever calls draws it per image, so that an image does not depend on its batch. ``registry`` hands out any of
them by name with its knobs filled in.
"""
