"""Stage ``check_params``: check the whole of params.yaml and the folders that it names, before any other stage."""

import logging
import os
from operator import attrgetter
from pathlib import Path

from latentline.core.errors import UserError
from latentline.core.files import write_json
from latentline.core.load_params import read_params, validate
from latentline.core.paths import PARAMS_CHECKED
from latentline.core.stage import run_stage
from latentline.core.watched import require_watchable
from latentline.latents.pretrained_text import require_text_encoder
from latentline.runtime.compute import has_device
from latentline.runtime.packaged_weights import require_inception_weights
from stages.schema import Params

_log = logging.getLogger(__name__)
_WATCHED = (
    "data.path",
    "data.labels",
    "autoencoder.init_from",
    "denoiser.init_from",
    "text.path",
    "sample.prompts_file",
    "manipulate.files",
)


def main() -> None:
    """Check params.yaml; write data/params_checked.json, which is always the same, so that no stage follows."""
    try:
        params = validate(read_params())
    except UserError:
        if "DVC_EXP_NAME" in os.environ:
            _log.warning("params.yaml keeps the values of this experiment, until you change them there")
        raise
    defaults = Params()
    for setting in _WATCHED:
        path, default = (Path(attrgetter(setting)(one)) for one in (params, defaults))
        # DVC hashes these before the stage that reads them could refuse them, and removes that stage's outs.
        if path != default and not path.exists():
            raise UserError(f"{setting} ({path}) must be a path that exists, or DVC fails; correct the name")
        require_watchable(setting, path)
    if params.text.encoder == "pretrained":
        require_text_encoder(Path(params.text.path), params.text.length)
    if params.feature_extractor.name == "inception":  # no dependency: its sha256 is a setting
        require_inception_weights(Path(params.feature_extractor.path), params.feature_extractor.sha256)
    if not has_device(device := params.compute.device):  # no refusal: the stages may run on another machine, in a queue
        _log.warning("compute.device (%s) is no device of this machine: stages that compute with networks stop", device)
    write_json(PARAMS_CHECKED, {"params.yaml": "valid"})
    _log.info("params.yaml is valid: %s", ", ".join(Params.model_fields))


if __name__ == "__main__":
    run_stage("check_params", main)
