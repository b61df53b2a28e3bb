"""Samplers: pure functions ``sampler(velocity, z, times, on_step=None) -> z``; one module each.

``velocity(z_t, t)`` is any velocity field, ``z`` (B, ...) the state at ``times[0]``, ``times`` (K + 1,) any monotone grid: from 1
to 0 it samples, from 0 to 1 it inverts. ``on_step(t, z)`` sees the state at every grid time, the first included.
"""
