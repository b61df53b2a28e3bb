"""Run DVC stage ``download``."""

import checkout  # noqa: F401 - first: see there
from latentline.pipeline.download import main
from latentline.runtime.stage import run_stage

if __name__ == "__main__":
    run_stage("download", main)
