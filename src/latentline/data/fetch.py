"""Get a file from the first of several addresses that serves the right content, and never hang."""

import gzip
import logging
import time
import urllib.request
from collections.abc import Callable, Iterable

from latentline.common.files import sha256_bytes

log = logging.getLogger(__name__)

_BLOCK = 1 << 18  # bytes
_GRACE_SECONDS = 10.0  # before a slow source is judged
_SLOWEST = 20_000.0  # bytes per second: below this a source counts as hanging
_LARGEST = 1 << 30  # bytes: a source that sends more than this is not a data set of ours


class SourceError(Exception):
    """One source failed; the message says how. The caller tries the next one."""


def http_get(url: str, timeout_seconds: float) -> bytes:
    """The body at ``url``. Raises SourceError when it cannot be had, stalls for ``timeout_seconds``, or trickles."""
    started = time.monotonic()
    blocks: list[bytes] = []
    received = 0
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as response:
            while block := response.read1(_BLOCK):
                blocks.append(block)
                received += len(block)
                elapsed = time.monotonic() - started
                if elapsed > _GRACE_SECONDS and received < _SLOWEST * elapsed:
                    raise SourceError(f"{url}: only {received} bytes in {elapsed:.0f} s")
                if received > _LARGEST:
                    raise SourceError(f"{url}: sends more than {_LARGEST} bytes")
    except OSError as error:  # URLError, timeouts and broken connections are all OSError
        raise SourceError(f"{url}: {error}") from None
    return b"".join(blocks)


def gunzip_verified(compressed: bytes, sha256: str, source: str) -> bytes:
    """Decompress and compare with ``sha256`` of the decompressed content (gzip headers differ between mirrors)."""
    try:
        content = gzip.decompress(compressed)
    except (OSError, EOFError) as error:
        raise SourceError(f"{source}: not a gzip file ({error})") from None
    if (digest := sha256_bytes(content)) != sha256:
        raise SourceError(f"{source}: content has sha256 {digest}, expected {sha256}")
    return content


def first_that_works(attempts: Iterable[tuple[str, Callable[[], dict[str, bytes]]]]) -> tuple[str, dict[str, bytes]]:
    """Run the attempts in order and return (name, files) of the first that succeeds.

    Raises:
        SourceError: all failed; one line each.
    """
    failures = []
    for name, attempt in attempts:
        try:
            return name, attempt()
        except SourceError as error:
            log.warning("source %s failed: %s", name, error)
            failures.append(f"{name}: {error}")
    raise SourceError("; ".join(failures))
