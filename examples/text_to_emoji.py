"""Draw emoji from words: captioned pictures, with combinations of words held out, and how often they are drawn right.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-apple@16.0.0 emoji-datasource-facebook@16.0.0
    python examples/text_to_emoji.py pictures emoji-datasource-*-16.0.0.tgz    # data/emoji and data/emoji.csv
    make recipe NAME=text_to_emoji && make repro
    python examples/text_to_emoji.py measure                                   # retrieval.json and retrieval.png

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
    persons = defaultdict(set)
    for one in emoji:
        if len(one.tones) == 1:
            person, occupation = PERSON.fullmatch(one.name).groups()
            persons[occupation].add(person or "person")
    captions = set(CATS)
    for one in emoji:
        if len(one.tones) == 1:
            person, occupation = PERSON.fullmatch(one.name).groups()
            if len(persons[occupation]) > 1:
                first = hashlib.sha256(occupation.encode()).digest()[0]
                left_out = (first + ("man", "woman", "person").index(person or "person")) % len(TONES)
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
        known = contents["train"]
        table.writerows(row for content, row in rows if row[1] == "train" or content not in known)


class Examples(NamedTuple):
    """Pictures with their words."""

    images: Tensor
    """uint8 (N, 3, 64, 64)."""
    captions: list[str]
    vendors: list[str]

    def rows(self, rows: Sequence[int]) -> "Examples":
        """Return some of them, in that order."""
        chosen = [(self.captions[row], self.vendors[row]) for row in rows]
        return Examples(self.images[list(rows)], [words for words, _ in chosen], [vendor for _, vendor in chosen])

    @property
    def subjects(self) -> list[tuple[str, str]]:
        """Vendor and name without the skin tone."""
        pairs = zip(self.vendors, self.captions, strict=True)
        return [(vendor, re.sub(r": [^:]* skin tone$", "", caption)) for vendor, caption in pairs]


def read_examples(split: str) -> Examples:
    """Read a split of the prepared pictures."""
    stored = read_split(PREPARED, split)
    categories = stored.labels.schema[0].categories
    vendors = [categories[int(value)] for value in stored.labels.values[:, 0]]
    return Examples(stored.images[:], read_captions(PREPARED, split), vendors)


def drawn(model: TrainedModel, captions: Sequence[str], vendors: Sequence[str], seed: int = 0) -> Tensor:
    """Return one sample uint8 (N, 3, 64, 64) for each caption in the style of its vendor."""
    batches = []
    for first in range(0, len(captions), BATCH):
        rows = slice(first, first + BATCH)
        condition = model.condition(prompt=list(captions[rows]), vendor=list(vendors[rows]))
        z0 = model.sample(condition.size, condition, STEPS, GUIDANCE, seed=seed * len(captions) + first)
        batches.append(to_uint8(model.decode(z0)))
    return torch.cat(batches)


def scores(answers: Tensor, truths: Tensor, tones: Sequence[Tensor], own_tones: Sequence[int]) -> dict[str, float]:
    """Return how often the truth is the nearest picture, in the space of the feature extractor.

    Args:
        answers: features (N, D) of the pictures to score.
        truths: features (N, D) of the true pictures, which are the candidates of each other.
        tones: of each truth, the features (T, D) of the same emoji in its T skin tones.
        own_tones: which of the T is the true one.
    """
    nearest = torch.cdist(answers, truths).argsort(dim=1)[:, :5]
    hits = nearest == torch.arange(len(truths))[:, None]
    among = zip(answers, tones, own_tones, strict=True)
    right = [int(torch.cdist(one[None], own).argmin()) == row for one, own, row in among if len(own) > 1]
    return {
        "R@1": round(float(hits[:, 0].float().mean()), 3),
        "R@5": round(float(hits.any(dim=1).float().mean()), 3),
        "right skin tone": round(sum(right) / len(right), 3),
    }


@torch.no_grad()
def measure() -> None:
    """Draw held-out and as many training captions, write the scores to retrieval.json, and pictures to retrieval.png."""
    model, extractor = load("."), load_feature_extractor(torch.device("cpu"))
    test, train = read_examples("test"), read_examples("train")
    order = torch.randperm(len(train.captions), generator=generator(0, "emoji", "training captions")).tolist()
    everything = Examples(torch.cat([test.images, train.images]), *(a + b for a, b in zip(test[1:], train[1:])))
    features = extractor.extract(everything.images)[0]
    alike = defaultdict(list)
    for row, subject in enumerate(everything.subjects):
        alike[subject].append(row)
    results = {}
    for name, examples, rows in [
        ("held-out captions", test, list(range(len(test.captions)))),
        ("training captions", train.rows(order[: len(test.captions)]), [len(test.captions) + r for r in order][:len(test.captions)]),
    ]:
        others = [alike[subject] for subject in examples.subjects]
        tones = [features[same] for same in others], [same.index(row) for same, row in zip(others, rows, strict=True)]
        copies = [next((r for r in same if r != row and r >= len(test.captions)), same[0]) for same, row in zip(others, rows)]
        shuffled = examples.captions[1:] + examples.captions[:1]
        pictures = {
            "drawn from the caption": drawn(model, examples.captions, examples.vendors),
            "drawn from the caption of another": drawn(model, shuffled, examples.vendors),
            "training picture of the same emoji, other skin tone": everything.images[copies],
            "reconstruction of the truth": torch.cat([to_uint8(model.decode(model.encode(to_unit_range(part)))) for part in examples.images.split(BATCH)]),
        }
        results[name] = {
            method: scores(extractor.extract(images)[0], features[rows], *tones) for method, images in pictures.items()
        }
        print(name, json.dumps(results[name], indent=1))
    Path("retrieval.json").write_text(json.dumps({"pictures": len(test.captions), **results}, indent=2) + "\n")


if __name__ == "__main__":
    {"pictures": lambda: pictures([Path(name) for name in sys.argv[2:]]), "measure": measure}[sys.argv[1]]()
