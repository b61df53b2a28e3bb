"""The mathematics of diffusion; any network is an argument.

The convention, used everywhere and asserted in tests:

    t = 0 is data, t = 1 is noise.   z0 (or x0) is clean data, noise ~ N(0, I).
    z_t = alpha(t) * z0 + sigma(t) * noise
    velocity = dz_t / dt = alpha'(t) * z0 + sigma'(t) * noise        (= noise - z0 on the straight path)
    score = grad log p(z_t | z0) = -noise / sigma

Sampling integrates dz/dt = velocity from t = 1 down to t = 0. Many published codes have other signs and directions.
"""
