"""A copy of this repository in which tests run commands, and the settings of a tiny pipeline."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from support.params import set_params

TINY = {
    "data.name": "digits",
    "data.limit": 300,
    "autoencoder.epochs": 4,
    "autoencoder.optimizer.batch_size": 32,
    "autoencoder.optimizer.warmup_steps": 5,
    "autoencoder.latent_channels": 2,
    "autoencoder.encoder_channels": [8, 16],
    "autoencoder.encoder_blocks": [1, 1],
    "autoencoder.decoder_channels": [8, 16],
    "autoencoder.decoder_blocks": [1, 1],
    "denoiser.epochs": 2,
    "denoiser.optimizer.batch_size": 32,
    "denoiser.optimizer.warmup_steps": 5,
    "denoiser.channels": [16, 16],
    "denoiser.attention_levels": [1],
    "denoiser.preview.every_epochs": 1,
    "denoiser.preview.width": 2,
    "denoiser.preview.steps": 2,
    "sample.sampler": "heun",
    "sample.steps": 2,
    "sample.guidance_scale": 1.9,
    "sample.guidance_start": 0.0,
    "sample.guidance_end": 1.0,
    "sample.count": 40,
    "sample.moment_samples": 0,
    "sample.batch_size": 16,
    "feature_extractor.epochs": 6,
    "feature_extractor.optimizer.batch_size": 32,
    "feature_extractor.optimizer.warmup_steps": 5,
    "feature_extractor.channels": 8,
    "feature_extractor.features": 16,
    "latent_classifiers.max_iterations": 20,
    "manipulate.strengths": [-1.0, 0.0, 1.0],
    "manipulate.count": 5,
    "manipulate.strips": 3,
    "evaluate.neighbours": 3,
    "evaluate.pair_count": 30,
    "compute.threads": 1,
}
NOT_COPIED = ("tests/", "fig/", "metrics/", "dvc.lock")  # the committed run's results must not pass for a test's own
STAGES = (
    "check_params",
    "download",
    "train_feature_extractor",
    "train_autoencoder",
    "encode_and_cache_latents",
    "train_denoiser",
    "sample",
    "train_latent_classifiers",
    "manipulate",
    "evaluate",
)
"""In an order in which they can run."""
EVERY_STAGE = set(STAGES)
CHECK = "check_params"
"""The stage that another value of any setting runs again, beside those that depend on the setting."""


class Checkout:
    """A repository and the means to run commands in it, without this machine's settings of git and DVC."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment variables of a command."""
        identity = {
            f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        quiet = {
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "DVC_SITE_CACHE_DIR": f"{self.folder}-site",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_", "PYTHON"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**kept, **identity, **quiet, "PATH": path, **variables}

    def run(self, *command: str, expect: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command that must end with status ``expect``."""
        environment = self.environment(**variables)
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=1800
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    def dvc(self, *arguments: str) -> str:
        """Run DVC and return its output."""
        return self.run(sys.executable, "-m", "dvc", *arguments).stdout

    def repro(self, *arguments: str) -> set[str]:
        """Run ``dvc repro`` and return the stages that ran."""
        return set(re.findall(r"^Running stage '(\w+)'", self.dvc("repro", *arguments), re.MULTILINE))

    def log_of(self, *stages: str) -> str:
        """Run ``dvc repro`` for these stages alone and return what they log."""
        return self.run(sys.executable, "-m", "dvc", "repro", "--single-item", *stages).stderr

    def lock(self) -> dict[str, Any]:
        """Return the stages' entries of dvc.lock."""
        return YAML(typ="safe", pure=True).load(self.folder / "dvc.lock")["stages"]

    def metrics(self, name: str) -> dict[str, Any]:
        """Return metrics/NAME.json."""
        return json.loads((self.folder / "metrics" / f"{name}.json").read_text())

    def commit(self) -> None:
        """Commit all files."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "state")

    def change(self, **params: object) -> None:
        """Change settings of params.yaml, by their dotted names."""
        yaml = YAML()
        yaml.width = 4096
        content = yaml.load(self.folder / "params.yaml")
        set_params(content, params)
        yaml.dump(content, self.folder / "params.yaml")

    def copy(self, folder: Path) -> "Checkout":
        """Copy the checkout to ``folder``."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Checkout(folder)


def fresh_checkout(root: Path, folder: Path) -> Checkout:
    """Copy what git would hold of this repository into a repository of its own, before any run."""
    checkout = Checkout(folder)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    for name in listed.splitlines():
        if (root / name).is_file() and not name.startswith(NOT_COPIED):
            (checkout.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, checkout.folder / name)
    checkout.run("git", "init", "--quiet")
    return checkout


def finished_checkout(root: Path, folder: Path) -> None:
    """Copy the repository and run the tiny pipeline in it."""
    checkout = fresh_checkout(root, folder)
    checkout.change(**TINY)
    checkout.commit()
    assert checkout.repro() == EVERY_STAGE
    checkout.commit()
