"""Hide a random third of test images, fill it by RePaint, and compare with simpler fills.

    python examples/repair.py repair      # in a folder with a finished run of the default recipe

Writes repair.json (scores of 500 images) and repair.png (the first eight). Each image loses a rectangle of a third of
its area. ``mse`` is the mean squared error of the hidden pixels, which are in [-1, 1]. ``accuracy`` is the feature
extractor's on the whole image. Takes about two minutes of one core.
"""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from latentline import TrainedModel, load
from latentline.core.paths import PREPARED
from latentline.core.seeds import generator
from latentline.data.store import read_split, to_uint8, to_unit_range
from latentline.feature_extractors.load import load_feature_extractor
from latentline.figures.grids import GridText, save_grid

BATCH = 100  # images at a time; does not change the result
MEAN_OF = 10_000  # training images
SHOWN = 8
GREY = 0.0  # of hidden pixels in the figure


def hidden_third(index: int, height: int, width: int) -> Tensor:
    """Return the mask bool (1, H, W) of image ``index``: a rectangle of about a third of the area, at random."""
    draw = generator(0, "repair", index)

    def integer(least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (1,), generator=draw))

    rows = integer(-(-height // 3), height)
    columns = min(width, round(height * width / 3 / rows))
    top, left = integer(0, height - rows), integer(0, width - columns)
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, top : top + rows, left : left + columns] = True
    return mask


def inpainted(model: TrainedModel, images: Tensor, masks: Tensor, resamplings: int, labels: Tensor | None) -> Tensor:
    """Return images (N, C, H, W) filled batch by batch, conditioned on ``labels`` where there are any."""
    batches = []
    for rows in torch.arange(len(images)).split(BATCH):
        condition = None if labels is None else model.condition(label=labels[rows])
        batches.append(model.inpaint(images[rows], masks[rows], condition, first=int(rows[0]), resamplings=resamplings))
    return torch.cat(batches)


def draw(path: Path, rows: dict[str, Tensor]) -> None:
    """Write one row of images (N, C, H, W) per entry, with its name on the left."""
    images = torch.cat([to_uint8(images[:SHOWN]) for images in rows.values()])
    columns = len(images) // len(rows)
    save_grid(path, images, columns, 2, GridText("Hidden parts of test images, filled", rows=list(rows)))


def main(name: str, count: int = 500) -> None:
    """Score the fills of the first ``count`` test images, and write NAME.json and NAME.png."""
    model, extractor = load("."), load_feature_extractor(torch.device("cpu"))
    test, train = read_split(PREPARED, "test"), read_split(PREPARED, "train")
    truth, labels = to_unit_range(test.images[:count]), test.labels.values[:count, 0].long()
    masks = torch.stack([hidden_third(index, *truth.shape[2:]) for index in range(len(truth))])
    mean = to_unit_range(train.images[:MEAN_OF]).mean(0).expand_as(truth)
    fills = {
        "mean of training images": mean,
        "pasted samples": model.decode(model.sample(len(truth))),
        "RePaint, resamplings=1": inpainted(model, truth, masks, 1, None),
        "RePaint, resamplings=5": inpainted(model, truth, masks, 5, None),
        "RePaint, resamplings=10": inpainted(model, truth, masks, 10, None),
        "the same, given the class": inpainted(model, truth, masks, 10, labels),
        "reconstruction of the truth": model.decode(model.encode(truth)),
        "truth": truth,
    }
    scores, shown = {}, {"truth, a third hidden": truth.masked_fill(masks, GREY)}
    for method, fill in fills.items():
        shown[method] = torch.where(masks, fill, truth)
        error = (shown[method] - truth)[masks.expand_as(truth)].square().mean()
        predicted = extractor.extract(to_uint8(shown[method]))[1][:, 0]
        scores[method] = {
            "mse": round(float(error), 4),
            "accuracy": round(float((predicted == labels).float().mean()), 4),
        }
        print(f"{method:30} {scores[method]}")
    Path(f"{name}.json").write_text(json.dumps({"images": len(truth), "fills": scores}, indent=2) + "\n")
    draw(Path(f"{name}.png"), shown)


if __name__ == "__main__":
    main(sys.argv[1])
