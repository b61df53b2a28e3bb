"""Run DVC stage ``train_feature_extractor``."""

import checkout  # noqa: F401 - first: see there
from latentline.pipeline.train_feature_extractor import main
from latentline.runtime.stage import run_stage

if __name__ == "__main__":
    run_stage("train_feature_extractor", main)
