"""The map as HTML: points that have colours, a legend, and one picture of all thumbnails."""

import base64
import io
import math
from html import escape

import matplotlib
import torch
import torch.nn.functional as F
from matplotlib.colors import to_hex
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from latentline.core.attributes import Attribute, most_frequent
from latentline.explorer.latent_map import LatentMap
from latentline.explorer.session import Gallery
from latentline.figures.style import PALETTE

_WIDTH, _HEIGHT, _MARGIN = 720, 540, 16
_THUMBNAIL = 56  # pixels, at most
_COLORS = (*PALETTE[:6], "#882255", "#999933", "#332288", "#AAAAAA")  # Okabe and Ito's, then Tol's
_OTHERS = "#CCCCCC"


def map_html(found: LatentMap, gallery: Gallery, attribute: Attribute | None) -> str:
    """Return the map, coloured by an attribute of the labels; None = one colour."""
    low, high = found.points.amin(dim=0), found.points.amax(dim=0)
    per_x = float(high[0] - low[0]) / (_WIDTH - 2 * _MARGIN) or 1.0
    per_y = float(high[1] - low[1]) / (_HEIGHT - 2 * _MARGIN) or 1.0
    left, top = float(low[0]) - _MARGIN * per_x, float(high[1]) + _MARGIN * per_y
    colors, names, legend = _colored(gallery, attribute)
    circles = "".join(
        f'<circle cx="{(x - left) / per_x:.1f}" cy="{(top - y) / per_y:.1f}" r="5" fill="{color}" data-i="{index}" '
        f'data-name="{escape(name, quote=True)}"/>'
        for index, ((x, y), color, name) in enumerate(zip(found.points.tolist(), colors, names, strict=True))
    )
    keys = "".join(f'<span><b style="background:{color}"></b>{escape(name)}</span>' for name, color in legend)
    columns, rows, picture = _thumbnails(gallery.images)
    return (
        f'<div class="explorer-map" style="position:relative;--thumbnails:url(data:image/png;base64,{picture})" '
        f'data-columns="{columns}" data-rows="{rows}"><div class="legend">{keys}</div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Map of the latents" '
        f'data-frame="{left} {top} {per_x} {per_y}">{circles}<g class="mark" visibility="hidden" fill="none" '
        'stroke="#000" stroke-width="2"><circle r="9"/><path d="M-14 0h8M6 0h8M0 -14v8M0 6v8"/></g></svg>'
        '<div class="tip"><i></i><span></span></div></div>'
    )


def _colored(gallery: Gallery, attribute: Attribute | None) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Return each point's colour and name, and the legend: names with colours."""
    kind = "sample" if gallery.are_samples else "test image"
    numbered = [f"{kind} {index}" for index in range(len(gallery.images))]
    if attribute is None:
        return [PALETTE[0]] * len(numbered), numbered, []
    values = gallery.labels.values[:, gallery.labels.names.index(attribute.name)]
    if attribute.kind == "continuous":
        return _shaded(attribute.name, values)
    classes = attribute.classes or (f"not {attribute.name}", attribute.name)
    present = values[~values.isnan()]
    ranked = most_frequent(present, len(_COLORS)).tolist()
    color = {index: _COLORS[rank] for rank, index in enumerate(ranked)}
    indices = [-1 if math.isnan(value) else int(value) for value in values.tolist()]
    legend = [(classes[index], color[index]) for index in ranked]
    if set(indices) - set(ranked):
        legend.append(("others", _OTHERS))
    return (
        [color.get(index, _OTHERS) for index in indices],
        [classes[index] if index >= 0 else "unknown" for index in indices],
        legend,
    )


def _shaded(name: str, values: Tensor) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Return colours from dark (the lowest number) to light, names and legend for values (N,); grey without one."""
    present = values[~values.isnan()]
    low, high = (float(end) for end in present.aminmax()) if len(present) else (0.0, 0.0)
    colormap = matplotlib.colormaps["viridis"]
    colors = [
        _OTHERS if math.isnan(value) else to_hex(colormap((value - low) / ((high - low) or 1.0)))
        for value in values.tolist()
    ]
    legend = [(f"{name} {low:.3g}", to_hex(colormap(0.0))), (f"{name} {high:.3g}", to_hex(colormap(1.0)))]
    return colors, [f"{name} {value:.3g}" for value in values.tolist()], legend


def _thumbnails(images: Tensor) -> tuple[int, int, str]:
    """Return columns, rows and the PNG in base64 of all images (N, C, H, W) side by side."""
    if max(images.shape[-2:]) > _THUMBNAIL:
        images = F.interpolate(images.float(), (_THUMBNAIL, _THUMBNAIL), mode="area").round().to(torch.uint8)
    columns = max(1, round(len(images) ** 0.5))
    rows = -(-len(images) // columns)
    sheet = to_pil_image(make_grid(images, columns, padding=0))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return columns, rows, base64.b64encode(file.getvalue()).decode()
