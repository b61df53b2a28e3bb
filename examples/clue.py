"""Why is the classifier unsure of this image? CLUE (Antoran et al., arXiv 2006.06848): the nearest image of which it is sure.

    python examples/clue.py clue.png       # after what examples/bayesian_last_layer.py says

Takes the test images that the Bayesian last layer is least sure of and walks in the latent space, by gradients through the decoder, the
encoder and the layer, to where its entropy is low and the image still close (algorithm 1). The picture has three rows: the images as
decoded, their counterfactuals, and what changed (grey = nothing).
"""

import sys
from pathlib import Path

import torch
from bayesian_last_layer import COUNT, entropy, fit, read

from latentline.data.store import to_uint8
from latentline.figures.grids import save_grid
from latentline.trained_model import load

IMAGES = 12
STEPS = 100
LEARNING_RATE = 0.05
CLOSENESS = 10.0  # weight of the mean absolute change of a pixel, beside the entropy in nats


def main(path: Path) -> None:
    """Explain the ``IMAGES`` least certain test images in ``path``."""
    model, (known, labels) = load("."), read("train")
    layer = fit(known[:COUNT], labels[:COUNT])
    test, _ = read("test")
    z0 = test[entropy(layer(test)).argsort(descending=True)[:IMAGES]]  # (B, *latent_shape)
    original = model.decode(z0)  # (B, C, H, W)
    z = z0.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=LEARNING_RATE)
    for _ in range(STEPS):
        image = model.decode(z)
        unsure = entropy(layer(model.encode(image)))  # (B,)
        change = (image - original).abs().mean(dim=(1, 2, 3))  # (B,)
        optimizer.zero_grad()
        (unsure + CLOSENESS * change).sum().backward()
        optimizer.step()
    with torch.no_grad():
        image = model.decode(z)
        before, after = (layer(model.encode(shown)) for shown in (original, image))  # (B, K)
    print(f"entropy {entropy(before).mean():.2f} -> {entropy(after).mean():.2f} nats, mean change of a pixel {change.mean() / 2:.3f} of its range")
    for sure, classes in zip(after.max(dim=1).values.tolist(), zip(before.argmax(1).tolist(), after.argmax(1).tolist(), strict=True), strict=True):
        print("{} -> {}".format(*(model.stats.classes[kind] for kind in classes)), f"({sure:.2f})")
    save_grid(path, to_uint8(torch.cat([original, image, (image - original) / 2])), columns=IMAGES, scale=3)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
