"""The mathematics of diffusion; any network is an argument.

The convention, used everywhere and asserted in tests:

    t = 0 is data, t = 1 is noise.   z0 (or x0) is clean data, noise ~ N(0, I).
    z_t = alpha(t) * z0 + sigma(t) * noise
    velocity = dz_t / dt = alpha'(t) * z0 + sigma'(t) * noise        (= noise - z0 on the straight path)
    v = alpha * noise - sigma * z0                                   (no velocity in time: Salimans and Ho's rotated target)
    score = grad log p(z_t | z0) = -noise / sigma
    SNR = alpha^2 / sigma^2,  lambda = log(alpha / sigma)

Sampling goes from t = 1 down to t = 0. Many published codes have other signs and directions.

**One equation for every path.** Between two times the probability flow moves a state by

    dz = z0 d(alpha) + noise d(sigma)

with the network's present estimates of z0 and noise. Solvers here are written in these increments, not in velocity * dt: on the
straight path the two are the same, and on variance-preserving paths, where sigma'(0) is infinite, only the increments are finite.

**Discrete schedules** (alpha_bar_0 .. alpha_bar_{T-1}, T = 1000) lie on the same axis: index i is t = (i + 1) / T, so that t = 1 is the
last and noisiest step and t = 0, before the first, is the data itself (alpha_bar = 1). Between two indices log alpha_bar is linear in t:
solvers that know nothing of steps may ask at any t. At t = 1 these paths still hold a trace of the data (alpha = 0.006 for
``vp_linear``); sampling starts from N(0, I) all the same, as everybody's does.

Reading order: ``path``, ``vp`` (how much noise when), ``prediction`` (what a network may say), ``process`` (the two together),
``objective`` (training), ``guidance``, ``time_grid``, ``samplers``; then ``inversion``, ``likelihood``, ``classification``.
"""
