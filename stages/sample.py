"""Run DVC stage ``sample``."""

import checkout  # noqa: F401 - first: see there
from latentline.pipeline.sample import main
from latentline.runtime.stage import run_stage

if __name__ == "__main__":
    run_stage("sample", main)
