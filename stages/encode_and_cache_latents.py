"""Run DVC stage ``encode_and_cache_latents``."""

import checkout  # noqa: F401 - first: see there
from latentline.pipeline.encode_and_cache_latents import main
from latentline.runtime.stage import run_stage

if __name__ == "__main__":
    run_stage("encode_and_cache_latents", main)
