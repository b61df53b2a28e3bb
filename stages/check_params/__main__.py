"""Stage ``check_params``: check the whole of params.yaml, before any other stage."""

import logging

from latentline.core.files import write_json
from latentline.core.load_params import read_params, validate
from latentline.core.paths import PARAMS_CHECKED
from latentline.core.stage import run_stage
from stages.schema import Params

_log = logging.getLogger(__name__)


def main() -> None:
    """Check params.yaml; write data/params_checked.json, which is always the same, so that no stage follows."""
    validate(read_params())
    write_json(PARAMS_CHECKED, {"params.yaml": "valid"})
    _log.info("params.yaml is valid: %s", ", ".join(Params.model_fields))


if __name__ == "__main__":
    run_stage("check_params", main)
