"""Draw emoji from words: captioned pictures, with combinations of words held out, and how often they are drawn right.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-apple@16.0.0 emoji-datasource-facebook@16.0.0
    python examples/text_to_emoji.py pictures emoji-datasource-*-16.0.0.tgz    # data/emoji and data/emoji.csv
    make recipe NAME=text_to_emoji && make repro
    python examples/text_to_emoji.py measure                                   # retrieval.json and two pictures

The caption is the emoji's name and its skin tone; the vendor is an attribute. Held out for the test are one skin tone
of each (person, occupation), such as "woman farmer: dark skin tone", and three of the nine expressions of the cat. Each
of their words is in training captions, and so is each pair of words that names a person. Licences: MIT for the
packages, Apache 2.0 for Google's drawings. Apple's and Facebook's drawings are theirs: train on them, publish none.
"""

import csv
import hashlib
import json
import re
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from latentline import TrainedModel, load
from latentline.core.paths import PREPARED
from latentline.core.seeds import generator
from latentline.data.captions import read_captions
from latentline.data.store import read_split, to_uint8, to_unit_range
from latentline.feature_extractors.load import load_feature_extractor
from latentline.figures.grids import GridText, save_grid

PICTURES, TABLE = Path("data/emoji"), Path("data/emoji.csv")
TONES = {
    "1F3FB": "light",
    "1F3FC": "medium-light",
    "1F3FD": "medium",
    "1F3FE": "medium-dark",
    "1F3FF": "dark",
}
PERSON = re.compile(r"(?:(man|woman|person)(?: in| with| wearing)?|) ?(.*?)(?: facing right)?")
BATCH = 100  # pictures at a time
STEPS, GUIDANCE = 16, 2.0
SHOWN, SAMPLES = 12, 5  # captions of the figure, and samples of each
CATS = ("crying cat face", "kissing cat face with closed eyes", "smiling cat face with heart-shaped eyes")


class Emoji(NamedTuple):
    """A picture of a package."""

    image: str
    """Its file name."""
    name: str
    """In lower case, without the skin tone."""
    tones: tuple[str, ...]
    """Keys of ``TONES``; two for some couples."""

    @property
    def caption(self) -> str:
        """The name and the skin tones, in the words of Unicode's CLDR."""
        return self.name + (": " + ", ".join(f"{TONES[tone]} skin tone" for tone in self.tones) if self.tones else "")


def emoji_of(listed: Sequence[dict], vendor: str) -> Iterator[Emoji]:
    """Yield the pictures that a package's ``emoji.json`` lists for ``vendor``."""
    for item in listed:
        if item["category"] == "Component":  # patches of skin and hair alone
            continue
        variations = item.get("skin_variations", {})
        for tones, icon in [("", item), *variations.items()]:
            if icon[f"has_img_{vendor}"]:
                yield Emoji(icon["image"], item["name"].lower(), tuple(tones.split("-")) if tones else ())


def held_out(emoji: Sequence[Emoji]) -> set[str]:
    """Return the captions that no training picture has.

    Of each occupation that at least two of man, woman and person have, each of these lacks another one of the five
    tones. So the occupation is in training with all tones and with all persons.
    """
    named = [(one, *PERSON.fullmatch(one.name).groups("person")) for one in emoji if len(one.tones) == 1]
    persons = defaultdict(set)
    for _, person, occupation in named:
        persons[occupation].add(person)
    captions = set(CATS)
    for one, person, occupation in named:
        if len(persons[occupation]) > 1:
            first = hashlib.sha256(occupation.encode()).digest()[0]
            left_out = (first + ("man", "woman", "person").index(person)) % len(TONES)
            if one.tones[0] == list(TONES)[left_out]:
                captions.add(one.caption)
    return captions


def pictures(packages: Sequence[Path]) -> None:
    """Write the pictures of the .tgz ``packages`` to data/emoji/VENDOR, and data/emoji.csv with their captions.

    Left out are pictures to hold out that equal a training picture: some vendors draw all skin tones alike.
    """
    rows, contents = [], {"train": set(), "test": set()}
    for package in packages:
        vendor = re.search(r"emoji-datasource-([a-z]+)", package.name)[1]
        (PICTURES / vendor).mkdir(parents=True, exist_ok=True)
        with tarfile.open(package, "r:gz") as archive:
            emoji = list(emoji_of(json.load(archive.extractfile("package/emoji.json")), vendor))
            by_image, test = {one.image: one for one in emoji}, held_out(emoji)
            for member in archive:
                path = Path(member.name)
                if path.parent.name == "64" and path.name in by_image:
                    one, content = by_image[path.name], archive.extractfile(member).read()
                    split = "test" if one.caption in test else "train"
                    (PICTURES / vendor / path.name).write_bytes(content)
                    contents[split].add(content)
                    rows.append((content, [f"{vendor}/{path.name}", split, vendor, one.caption]))
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "split", "vendor", "caption"])
        training = contents["train"]
        table.writerows(row for content, row in rows if row[1] == "train" or content not in training)


class Examples(NamedTuple):
    """Pictures with their words."""

    images: Tensor
    """uint8 (N, 3, 64, 64)."""
    captions: list[str]
    vendors: list[str]

    def rows(self, rows: Sequence[int]) -> "Examples":
        """Return some of them, in that order."""
        return Examples(self.images[list(rows)], *([column[row] for row in rows] for column in self[1:]))


def read_examples(split: str) -> Examples:
    """Read a split of the prepared pictures."""
    stored = read_split(PREPARED, split)
    (vendor,) = stored.labels.schema
    vendors = [vendor.classes[int(value)] for value in stored.labels.values[:, 0]]
    return Examples(stored.images[:], read_captions(PREPARED, split), vendors)


def draw(model: TrainedModel, captions: Sequence[str], vendors: Sequence[str], seed: int = 0) -> Tensor:
    """Return one sample uint8 (N, 3, 64, 64) of each caption, in the style of its vendor."""
    batches = []
    for first in range(0, len(captions), BATCH):
        rows = slice(first, first + BATCH)
        condition = model.condition(prompt=list(captions[rows]), vendor=list(vendors[rows]))
        batches.append(model.decode(model.sample(condition.size, condition, STEPS, GUIDANCE, seed=seed + first)))
    return to_uint8(torch.cat(batches))


class Retrieval:
    """Find the true picture of each of N captions, by the distance between features.

    Args:
        everything: all pictures, the N true ones first.
        features: of all pictures (M, D).
        count: N.
    """

    def __init__(self, everything: Examples, features: Tensor, count: int) -> None:
        self.features, self.count = features, count
        alike = defaultdict(list)  # the skin tones of one vendor's emoji
        names = [re.sub(r": [^:]* skin tone$", "", caption) for caption in everything.captions]
        subjects = list(zip(everything.vendors, names, strict=True))
        for row, subject in enumerate(subjects):
            alike[subject].append(row)
        self.alike = [alike[subject] for subject in subjects[:count]]

    def other_tones(self) -> list[int]:
        """Return a picture of each true one's emoji in another skin tone, or itself where there is none."""
        return [next((row for row in rows if row >= self.count), rows[0]) for rows in self.alike]

    def scores(self, answers: Tensor) -> dict[str, float]:
        """Return how often the nearest picture to each answer, by features (N, D), is the true one.

        R@1 and R@5 are among the N true pictures. The skin tone is right where the true picture is nearer than those
        of the same emoji in its other skin tones.
        """
        nearest = torch.cdist(answers, self.features[: self.count]).topk(5, largest=False).indices
        hits = nearest == torch.arange(self.count)[:, None]
        tones = [
            rows[int(torch.cdist(answer[None], self.features[rows]).argmin())] == row
            for row, (answer, rows) in enumerate(zip(answers, self.alike, strict=True))
            if len(rows) > 1
        ]
        shares = {"R@1": hits[:, 0], "R@5": hits.any(dim=1), "right skin tone": torch.tensor(tones)}
        return {name: round(float(share.float().mean()), 3) for name, share in shares.items()}


@torch.no_grad()
def measure() -> None:
    """Draw all held-out captions and as many training captions; write retrieval.json and pictures."""
    model, extractor = load("."), load_feature_extractor(torch.device("cpu"))
    test, train = read_examples("test"), read_examples("train")
    count = len(test.captions)
    order = torch.randperm(len(train.captions), generator=generator(0, "emoji", "training captions")).tolist()
    results: dict[str, object] = {"pictures": count}
    for name, own, others in (
        ("held-out captions", test, train),
        ("training captions", train.rows(order[:count]), train.rows(order[count:])),
    ):
        everything = Examples(torch.cat([own.images, others.images]), *map(list.__add__, own[1:], others[1:]))
        retrieval = Retrieval(everything, extractor.extract(everything.images)[0], count)
        shuffled = own.captions[1:] + own.captions[:1]
        batches = to_unit_range(own.images).split(BATCH)
        pictures = {
            "drawn from the caption": draw(model, own.captions, own.vendors),
            "drawn from the caption of another": draw(model, shuffled, own.vendors),
            "the same emoji in another skin tone": everything.images[retrieval.other_tones()],
            "reconstruction of the true picture": to_uint8(torch.cat([model.decode(model.encode(x)) for x in batches])),
        }
        results[name] = {way: retrieval.scores(extractor.extract(images)[0]) for way, images in pictures.items()}
        print(name, json.dumps(results[name], indent=1))
    Path("retrieval.json").write_text(json.dumps(results, indent=2) + "\n")
    show(model, test)


def show(model: TrainedModel, test: Examples) -> None:
    """Draw captions of the test to retrieval.png and samples.png, in Google's style, since that may be shown."""
    google = test.rows([row for row, vendor in enumerate(test.vendors) if vendor == "google"])
    cats = [row for row, caption in enumerate(google.captions) if caption in CATS]
    others = [row for row in range(len(google.captions)) if row not in cats]
    shown = google.rows(cats + others[:: len(others) // (SHOWN - len(cats))][: SHOWN - len(cats)])
    drawn = [draw(model, shown.captions, shown.vendors, seed=1000 * number) for number in range(SAMPLES)]
    save_grid(
        Path("retrieval.png"),
        torch.stack([shown.images, *drawn], dim=1).flatten(0, 1),
        1 + SAMPLES,
        scale=2,
        text=GridText(
            "Captions that no training picture has",
            "Left the picture of that caption, which the model was not trained on; then samples.",
            rows=shown.captions,
            columns=["true picture", *(f"sample {number + 1}" for number in range(SAMPLES))],
        ),
    )
    save_grid(
        Path("samples.png"),
        drawn[0],
        columns=SHOWN // 2,
        scale=2,
        text=GridText("Drawn from captions that no training picture has", cells=shown.captions),
    )


if __name__ == "__main__":
    {"pictures": lambda: pictures([Path(name) for name in sys.argv[2:]]), "measure": measure}[sys.argv[1]]()
