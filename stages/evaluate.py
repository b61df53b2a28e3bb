"""Run DVC stage ``evaluate``."""

import checkout  # noqa: F401 - first: see there
from latentline.pipeline.evaluate import main
from latentline.runtime.stage import run_stage

if __name__ == "__main__":
    run_stage("evaluate", main)
