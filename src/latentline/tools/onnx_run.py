"""Draw images from the networks beside this file. It needs numpy and onnxruntime alone.

    python run.py --label Sandal --count 8 --seed 0 --out grid.png
    python run.py --attribute wide=1 --noise noise.npy --out images.npy

The file pipeline.json says how the numbers fit together. Image i of a seed begins with the noise of the training
program's sample i, and equals it where both have the same labels.
"""

import argparse
import hashlib
import json
import math
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_BATCH = 64  # images at a time
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> grey, grey and alpha, RGB, RGB and alpha in a PNG


def condition_vectors(attributes: Sequence[dict[str, Any]], values: dict[str, str], count: int) -> Array:
    """Return conditions (count, F) for values by name. Without values the classes come in turn.

    Raises:
        ValueError: an unknown attribute or class.
    """
    names = [attribute["name"] for attribute in attributes]
    if unknown := sorted(set(values) - set(names)):
        raise ValueError(
            f"{unknown[0]} must be one of the attributes: {', '.join(names) or 'there are none'}; correct it"
        )
    in_turn = not values
    parts = [_part(attribute, values.get(attribute["name"]), in_turn, count) for attribute in attributes]
    return np.concatenate([np.zeros((count, 0), np.float32), *parts], axis=1)


def _part(attribute: dict[str, Any], value: str | None, in_turn: bool, count: int) -> Array:
    """Return the part of one attribute; zeros without a value."""
    if attribute["kind"] == "categorical":
        classes = list(attribute["classes"])
        part = np.zeros((count, len(classes)), np.float32)
        if value is not None:
            part[:, _class_index(attribute["name"], classes, value)] = 1
        elif in_turn and attribute["name"] == "label":
            part[np.arange(count), np.arange(count) % len(classes)] = 1
        return part
    if attribute["kind"] == "binary":
        return np.full((count, 1), 0 if value is None else 2 * float(value) - 1, np.float32)
    row = [0, 0] if value is None else [1, (float(value) - attribute["mean"]) / attribute["std"]]
    return np.tile(np.array(row, np.float32), (count, 1))


def _class_index(name: str, classes: list[str], value: str) -> int:
    if value in classes:
        return classes.index(value)
    if value in map(str, range(len(classes))):
        return int(value)
    raise ValueError(f"{name} ({value}) must be one of {', '.join(classes)}, or an index; correct it")


class Pipeline:
    """The networks and numbers of a folder."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime  # slow to load

        def session(name: str) -> Any:
            return onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])

        self.numbers = json.loads((folder / "pipeline.json").read_text(encoding="utf-8"))
        self.denoiser, self.decoder = session("denoiser"), session("decoder")
        guide = self.numbers["guidance"]["network"]
        self.guide = self.denoiser if guide == "denoiser" else session(guide)
        self.moments = session("moments") if self.numbers["moments"] else None
        self.diffusion_decoder = session("diffusion_decoder") if self.numbers["diffusion_decoder"] else None

    def images(self, noise: Array, condition: Array, decoder_noise: Array | None = None) -> Array:
        """Draw images (B, C, H, W), about in [-1, 1], from noise (B, *latent_shape) and conditions (B, F).

        A diffusion autoencoder decodes from noise of its own.
        """
        raw = _restored(self.latents(noise, condition), self.numbers["latents"])
        if decoder_noise is not None:
            inner = self.numbers["diffusion_decoder"]
            state = _sampled(inner, decoder_noise, lambda z, step: _denoised(self.diffusion_decoder, z, step["t"], raw))
            raw = _restored(state, inner)
        return _run(self.decoder, latents=raw)

    def latents(self, noise: Array, condition: Array) -> Array:
        """Draw standardised latents z0 (B, *latent_shape)."""
        z0 = _sampled(self.numbers["sampler"], noise, lambda z, step: self._output(z, step, condition))
        return z0 if self.moments is None else _run(self.moments, z=z0, condition=condition)

    def _output(self, z: Array, step: dict[str, Any], condition: Array) -> Array:
        """Return the guided output of the denoiser."""
        cond, guidance = _denoised(self.denoiser, z, step["t"], condition), self.numbers["guidance"]
        if not step["guided"]:
            return cond
        uncond = _denoised(self.guide, z, step["t"], np.zeros_like(condition))
        output: Array = uncond + np.float32(guidance["scale"]) * (cond - uncond)
        if guidance["rescale"]:
            axes = tuple(range(1, z.ndim))
            factor = cond.std(axes, keepdims=True) / output.std(axes, keepdims=True)
            output = output * (1 + np.float32(guidance["rescale"]) * (factor - 1))
        return output


def _sampled(table: dict[str, Any], noise: Array, output: Callable[[Array, dict[str, Any]], Array]) -> Array:
    """Follow the table of a sampler: each state is a weighted sum of the noise and the outputs so far."""
    terms = [noise.astype(np.float64)]
    for step in table["evaluations"]:
        terms.append(output(_combined(step["state"], terms), step).astype(np.float64))
    return _combined(table["result"], terms)


def _combined(weights: Sequence[float], terms: Sequence[Array]) -> Array:
    total: Array = sum(weight * term for weight, term in zip(weights, terms, strict=True) if weight) + 0 * terms[0]
    return total.astype(np.float32)


def _restored(z0: Array, moments: dict[str, Any]) -> Array:
    """Return raw latents of standardised ones, by the mean and the standard deviation of each channel."""
    per_channel = (-1, *[1] * (z0.ndim - 2))
    mean, std = (np.array(moments[name], np.float32).reshape(per_channel) for name in ("mean", "std"))
    restored: Array = z0 * std + mean
    return restored


def _denoised(session: Any, z: Array, time: float, condition: Array) -> Array:
    return _run(session, z=z, t=np.full(len(z), time, np.float32), condition=condition)


def _run(session: Any, **inputs: Array) -> Array:
    """Evaluate a network on those of the inputs that it takes."""
    result: Array = session.run(None, {one.name: inputs[one.name] for one in session.get_inputs()})[0]
    return result


def to_uint8(images: Array) -> Array:
    """Return bytes of images in [-1, 1], clipped and rounded to the nearest level."""
    return np.rint((np.clip(images, -1, 1) + 1) * np.float32(127.5)).astype(np.uint8)


def write_png(path: Path, images: Array) -> None:
    """Write uint8 images (N, C, H, W) as a grid, about as wide as high."""
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    grid = np.zeros((rows * columns, channels, height, width), np.uint8)
    grid[:count] = images
    pixels = grid.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    lines = pixels.reshape(rows * height, columns * width * channels)
    filtered = np.pad(lines, ((0, 0), (1, 0)))  # each line begins with the number of its filter: 0 = none
    header = struct.pack(">IIBBBBB", columns * width, rows * height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    coded = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(coded))


def start_noise(seed: int, name: str, count: int, shape: Sequence[int]) -> Array:
    """Return the standard normal noise (count, *shape) of the training program's images 0 to count - 1.

    It repeats torch.randn on the CPU: the Mersenne Twister and the method of Box and Muller.
    """
    rows = [_normal(f"{seed}/{name}/{index}", math.prod(shape)) for index in range(count)]
    return np.stack(rows).reshape(count, *shape)


def _normal(text: str, size: int) -> Array:
    """Return ``size`` standard normal numbers; the seed is the first 63 bits of the sha256 of ``text``."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    random = np.random.RandomState(seed & 0xFFFFFFFF)

    def words(count: int) -> Array:
        return random.randint(0, 1 << 32, count, np.uint32).astype(np.uint64)

    if size < 16:  # pairs in double precision
        high, low = words(2 * (size + size % 2)).reshape(-1, 2).T
        uniform = ((high << np.uint64(32) | low) % np.uint64(1 << 53) * 2.0**-53).reshape(-1, 2)  # (P, 2)
        pairs = _box_muller(1 - uniform[:, 1], 2 * np.pi * uniform[:, 0])  # (2, P)
        return pairs.T.reshape(-1)[:size].astype(np.float32)
    uniform = (words(size) % np.uint64(1 << 24)).astype(np.float32) * np.float32(2**-24)
    normal = _blocks_of_16(uniform[: size // 16 * 16])
    if size % 16:  # the last 16 numbers are drawn anew
        last = (words(16) % np.uint64(1 << 24)).astype(np.float32) * np.float32(2**-24)
        normal = np.concatenate([normal, np.zeros(size % 16, np.float32)])
        normal[-16:] = _blocks_of_16(last)
    return normal


def _blocks_of_16(uniform: Array) -> Array:
    """Return normal numbers of uniform ones: 8 radii and 8 angles make 8 cosines and 8 sines."""
    halves = uniform.reshape(-1, 2, 8)
    pairs = _box_muller(1 - halves[:, 0].astype(float), np.float32(2 * np.pi) * halves[:, 1])  # (2, blocks, 8)
    return pairs.swapaxes(0, 1).reshape(-1).astype(np.float32)


def _box_muller(uniform: Array, angle: Array) -> Array:
    radius = np.sqrt(-2 * np.log(uniform))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)])


def _noise(path: Path | None, shape: Sequence[int], count: int | None, seed: int, name: str) -> Array:
    """Return standard normal noise (count, *shape), drawn or from a file; count None = 8, or all of the file."""
    if count is not None and count < 1:
        raise ValueError(f"--count ({count}) must be at least 1; raise it")
    if path is None:
        return start_noise(seed, name, 8 if count is None else count, shape)
    noise: Array = np.lib.format.open_memmap(path, mode="r")  # it never reads pickles
    if noise.shape[1:] != tuple(shape) or len(noise) < (count or 1):
        expected = f"({count or 'N'} or more, {', '.join(map(str, shape))})"
        raise ValueError(f"{path} {noise.shape} must have the shape {expected}; correct it")
    return noise[:count].astype(np.float32)


def main() -> None:
    """Command line: see the top of this file."""
    parser = argparse.ArgumentParser(description="Draw images with onnxruntime.")
    parser.add_argument("--label", help="class, by name or index; without it the classes come in turn")
    parser.add_argument("--attribute", action="append", default=[], metavar="NAME=VALUE", help="another label")
    parser.add_argument("--count", type=int, help="images (default: 8, or as many as --noise has)")
    parser.add_argument("--seed", type=int, help="of the noise (default: that of the training program)")
    parser.add_argument("--noise", type=Path, help="file .npy of noise (N, *latent_shape)")
    parser.add_argument("--decoder-noise", type=Path, help="the same of a diffusion autoencoder's noise")
    parser.add_argument("--out", type=Path, default=Path("grid.png"), help=".png, or .npy for uint8 (N, C, H, W)")
    args = parser.parse_args()
    pipeline = Pipeline(Path(__file__).resolve().parent)
    numbers = pipeline.numbers
    drawn_from = numbers["noise"]
    seed = drawn_from["seed"] if args.seed is None else args.seed
    try:
        values = dict(item.split("=", 1) for item in args.attribute) | ({"label": args.label} if args.label else {})
        noise = _noise(args.noise, numbers["latent_shape"], args.count, seed, drawn_from["name"])
        condition = condition_vectors(numbers["condition"]["attributes"], values, len(noise))
        decoder_noise = None
        if inner := numbers["diffusion_decoder"]:
            own = inner["noise"]
            decoder_noise = _noise(args.decoder_noise, inner["noise_shape"], len(noise), own["seed"], own["name"])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    batches = [slice(start, start + _BATCH) for start in range(0, len(noise), _BATCH)]
    drawn = [
        pipeline.images(noise[rows], condition[rows], None if decoder_noise is None else decoder_noise[rows])
        for rows in batches
    ]
    images = to_uint8(np.concatenate(drawn))
    if args.out.suffix == ".npy":
        np.save(args.out, images)
    else:
        write_png(args.out, images)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
