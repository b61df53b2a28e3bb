"""The mathematics of diffusion; any network is an argument.

The convention, used everywhere and asserted in tests:

    t = 0 is data, t = 1 is noise.   z0 (or x0) is clean data, noise ~ N(0, I).
    z_t = alpha(t) * z0 + sigma(t) * noise
    velocity = dz_t / dt = alpha'(t) * z0 + sigma'(t) * noise        (= noise - z0 on the straight path)
    v = alpha * noise - sigma * z0                                   (Salimans and Ho's rotated target, no derivative)
    score = grad log p(z_t | z0) = -noise / sigma
    SNR = alpha^2 / sigma^2,  lambda = log(alpha / sigma)

Sampling goes from t = 1 down to t = 0. Many published codes have other signs and directions.

**One equation for every path.** Between two times the probability flow moves a state by

    dz = z0 d(alpha) + noise d(sigma)

with the network's present estimates of z0 and noise. Solvers here use these increments, not velocity * dt. On the
straight path the two are the same. On variance-preserving paths sigma'(0) is infinite, and only the increments are
finite.

**Discrete schedules** (alpha_bar_0 .. alpha_bar_{T-1}, T = 1000) lie on the same axis: index i is t = (i + 1) / T.
So t = 1 is the last and noisiest step, and t = 0, before the first, is the data itself (alpha_bar = 1). Between two
indices log alpha_bar is linear in t, so that a solver may evaluate the network at any t. At t = 1 these paths still
hold a trace of the data (alpha = 0.006 for ``vp_linear``). Sampling starts from N(0, I) all the same, as elsewhere.

Reading order: ``path`` and ``vp`` (how much noise when), ``prediction`` (what a network may predict), ``process`` (the
two together), ``objective`` (training). Then ``time_grid``, ``steps``, ``euler`` and ``dpmpp_2m``, the samplers that
trainings use. Then ``inversion``, ``sdedit`` and ``partial_denoising``. All other samplers are in
:mod:`latentline.samplers`, guidance in :mod:`latentline.denoisers`.
"""
