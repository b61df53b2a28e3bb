"""Run DVC stage ``train_autoencoder``."""

import checkout  # noqa: F401 - first: see there
from latentline.pipeline.train_autoencoder import main
from latentline.runtime.stage import run_stage

if __name__ == "__main__":
    run_stage("train_autoencoder", main)
