"""Find the nearest image that the classifier is certain about: CLUE (Antoran et al., arXiv 2006.06848, algorithm 1).

    python examples/clue.py clue.png       # after the commands in examples/bayesian_last_layer.py

Takes the test images with the highest entropy under the Bayesian last layer. Gradient descent through decoder, encoder
and layer moves their latents to low entropy while the image stays close. The figure has three rows: the decoded
images, their counterfactuals, and the difference (grey = none).
"""

import sys
from pathlib import Path

import torch
from bayesian_last_layer import COUNT, entropy, fit, read

from latentline import load
from latentline.data.store import to_uint8
from latentline.figures.grids import GridText, save_grid

IMAGES = 12
STEPS = 100
LEARNING_RATE = 0.05
CLOSENESS = 10.0  # weight of the mean absolute change of a pixel, beside the entropy in nats


def main(path: Path) -> None:
    """Explain the ``IMAGES`` least certain test images in ``path``."""
    model, (train, labels) = load("."), read("train")
    layer = fit(train[:COUNT], labels[:COUNT])
    test, _ = read("test")
    z0 = test[entropy(layer(test)).argsort(descending=True)[:IMAGES]]  # (B, *latent_shape)
    original = model.decode(z0)  # (B, C, H, W)
    z = z0.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=LEARNING_RATE)
    for _ in range(STEPS):
        image = model.decode(z)
        uncertainty = entropy(layer(model.encode(image)))  # (B,)
        change = (image - original).abs().mean(dim=(1, 2, 3))  # (B,)
        optimizer.zero_grad()
        (uncertainty + CLOSENESS * change).sum().backward()
        optimizer.step()
    with torch.no_grad():
        image = model.decode(z)
        before, after = (layer(model.encode(x)) for x in (original, image))  # (B, K)
    print(f"entropy {entropy(before).mean():.2f} -> {entropy(after).mean():.2f} nats, ", end="")
    print(f"mean change of a pixel {change.mean() / 2:.3f} of its range")
    classes = model.stats.classes
    for row_before, row_after in zip(before, after, strict=True):
        print(f"{classes[row_before.argmax()]} -> {classes[row_after.argmax()]} ({row_after.max():.2f})")
    difference = (image - original) / 2
    text = GridText(
        "What would make the classifier certain",
        "Test images with the highest entropy; their counterfactuals; the difference (grey = none).",
        ["decoded", "counterfactual", "difference"],
        [classes[index] for index in after.argmax(dim=1).tolist()],
        "class after the change",
    )
    save_grid(path, to_uint8(torch.cat([original, image, difference])), columns=IMAGES, scale=3, text=text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
