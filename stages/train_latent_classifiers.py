"""Run DVC stage ``train_latent_classifiers``."""

import checkout  # noqa: F401 - first: see there
from latentline.pipeline.train_latent_classifiers import main
from latentline.runtime.stage import run_stage

if __name__ == "__main__":
    run_stage("train_latent_classifiers", main)
