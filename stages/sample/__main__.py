"""Stage ``sample``: draw images, classes in turn where there are any."""

import itertools
import time
from dataclasses import replace

from latentline.core.files import canonical_json, digests, sha256_bytes
from latentline.core.load_params import load
from latentline.core.paths import DENOISER, GENERATED, LATENT_LABELS, LATENT_STATS
from latentline.core.progress import with_progress
from latentline.core.stage import run_stage
from latentline.core.timing import record_timing
from latentline.data.samples import write_samples
from latentline.denoisers.build import graph_modules
from latentline.latents.cache import read_labels
from latentline.runtime.compile import compiled, require_compiler
from latentline.runtime.compute import peak_memory_mib
from latentline.runtime.resumable_map import resumable_map
from latentline.runtime.resume import ResumeFile
from latentline.runtime.start import start
from latentline.samplers.moment_file import SavedMoments, save_moments
from latentline.samplers.settings import SamplingSettings
from stages.sample.draw import STAGE, draw_images, load_image_sampler
from stages.sample.moments import measure_moments
from stages.sample.params import SampleParams
from stages.sample.report import write_report


def main() -> None:
    """Read section ``sample``, checkpoints, encoded_img; write samples, moment maps, figures and metrics."""
    params, seed, compute = load("sample", SampleParams)
    device, ranks = start(compute)
    require_compiler(compute.compile, device)
    sampler = load_image_sampler(params, seed, device)
    autoencoder, labels = sampler.autoencoder.sha256, sampler.labels.select(sampler.denoiser.conditioning.names)

    inputs = {"seed": seed, "autoencoder": autoencoder, **digests([DENOISER, LATENT_STATS, LATENT_LABELS])}
    prompts = sampler.captions()
    if prompts is not None:
        inputs["prompts"] = sha256_bytes(canonical_json(prompts).encode())
        inputs["labels"] = sha256_bytes(sampler.labels.values.numpy().tobytes())
    identity = {"settings": params.model_dump(exclude={"figures"}), "inputs": inputs}
    state = ResumeFile(STAGE, identity, computed_by=["stages.sample.draw", "stages.sample.moments"])
    networks = [network for network in (sampler.denoiser.network, sampler.denoiser.guide) if network is not None]
    graphs = [*itertools.chain(*map(graph_modules, networks)), *sampler.autoencoder.network.children()]
    with compiled(compute.compile, device, graphs):
        training = read_labels(sampler.stats.schema)
        moments = measure_moments(sampler.draw, sampler.denoiser, training, params, ranks, state)
        sampler, started = replace(sampler, moments=moments), time.monotonic()
        with resumable_map(state, compute.save_every_seconds, ranks) as chunks:
            batches = -(-params.count // params.batch_size)
            images = draw_images(sampler, params.batch_size, chunks)
            drawn = with_progress(images, batches, "batches", ready=chunks.found)
            write_samples(GENERATED, drawn, labels, autoencoder, prompts=prompts)
    seconds = time.monotonic() - started
    sampling = SamplingSettings.of(params).with_learnt_guidance(sampler.denoiser.process)
    save_moments(SavedMoments(moments, sampling))
    drawn_now = min(chunks.computed * params.batch_size, params.count)
    record_timing(STAGE, images_per_second=drawn_now / seconds, peak_device_memory_mib=peak_memory_mib(device))

    write_report(params, sampler)
    state.finish()


if __name__ == "__main__":
    run_stage("sample", main)
