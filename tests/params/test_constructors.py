"""Every setting of a section with networks either shapes one of them or is listed here as one that does not.

Without its name in ``_CONSTRUCTORS`` a new setting would reach no network, and nothing would fail.
"""

import pytest

from stages.train_autoencoder import params as autoencoder
from stages.train_denoiser import params as denoiser

SHAPE_NO_NETWORK = {
    autoencoder.AutoencoderParams: {
        "name",
        "epochs",
        "perceptual_weight",
        "report_lpips",
        "adversarial",
        "diffae",  # has a constructor of its own
        "init_from",
        "init_from_sha256",
        "freeze_encoder",
        "ema_decay",
        "figures",
        "optimizer",
    },
    denoiser.DenoiserParams: {
        "name",
        "epochs",
        "gaussian_rank",  # sets the constructor's gaussian
        "condition",  # sets the constructor's cond_dim
        "label_dropout",
        "text",  # has a constructor of its own
        "ema_decays",
        "guide_epochs",
        "init_from",
        "init_from_sha256",
        "process",
        "objective",  # sets the constructor's average_velocity
        "flow_map",
        "muon",
        "preview",
        "optimizer",
    },
}


@pytest.mark.parametrize(
    ("section", "constructors"),
    [
        (autoencoder.AutoencoderParams, autoencoder._CONSTRUCTORS),
        (denoiser.DenoiserParams, denoiser._CONSTRUCTORS),
    ],
)
def test_every_setting_reaches_a_network_or_is_listed_as_none_of_a_network(section, constructors):
    shaping = {name for names in constructors.values() for name in names}
    others = SHAPE_NO_NETWORK[section]
    assert not shaping & others
    assert shaping | others == set(section.model_fields), (
        "add it to _CONSTRUCTORS of its params.py, or to the list here"
    )
