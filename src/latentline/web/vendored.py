"""onnxruntime-web, which runs the networks in the browser, fetched by npm and kept in a cache."""

import base64
import hashlib
import os
import subprocess
import tarfile
from pathlib import Path

from latentline.core.errors import UserError
from latentline.core.files import replaced_file, scratch_folder

VERSION = "1.30.0"
FOLDER = "onnxruntime"
FILES = {
    "package/dist/ort.wasm.bundle.min.mjs": "onnxruntime.js",  # .js, since some servers send .mjs as plain text
    "package/dist/ort-wasm-simd-threaded.wasm": "onnxruntime.wasm",
}
"""Of the package -> in the folder ``onnxruntime`` of the page."""
_PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_TIMEOUT = 600  # seconds, for 33 MB


def cache_folder() -> Path:
    """Return where packages are kept: outside the repository, since all checkouts of a user share them."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentline"


def fetch_runtime(cache: Path) -> Path:
    """Return the path of the package onnxruntime-web in ``cache``, fetched where it is missing.

    Raises:
        UserError: npm or its registry cannot be reached, or the package has other bytes than expected.
    """
    package = cache / _PACKAGE
    if not package.exists():
        with scratch_folder(cache / "npm") as folder:
            _npm_pack(folder, cache)
            (folder / _PACKAGE).replace(package)
    with package.open("rb") as file:
        digest = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if digest != _SHA512:
        raise UserError(f"{package} (sha512-{digest:.12}...) must be sha512-{_SHA512:.12}...; remove it and try again")
    return package


def _npm_pack(folder: Path, cache: Path) -> None:
    """Let npm write the package into ``folder``."""
    what, remedy = f"onnxruntime-web {VERSION}", f"or put {_PACKAGE} from npm's registry into {cache}"
    command = ["npm", "pack", f"onnxruntime-web@{VERSION}", "--ignore-scripts", "--fetch-retries=1", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except FileNotFoundError:
        raise UserError(f"make export-web needs npm, to fetch {what}; install npm, {remedy}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"npm took more than {_TIMEOUT} seconds to fetch {what}; try again, {remedy}") from None
    if done.returncode or not (folder / _PACKAGE).exists():
        reason = next(iter(done.stderr.splitlines()), "no package").removeprefix("npm error").strip()
        raise UserError(f"npm could not fetch {what} ({reason:.120}); connect to a network, {remedy}")


def write_runtime(folder: Path, package: Path) -> None:
    """Write the files of ``package`` that the page needs to ``folder``."""
    with tarfile.open(package) as archive:
        for name, here in FILES.items():
            member = archive.extractfile(name)
            if member is None:
                raise UserError(f"{package} must have the file {name}; remove it and try again")
            with replaced_file(folder / here) as temporary:
                temporary.write_bytes(member.read())
