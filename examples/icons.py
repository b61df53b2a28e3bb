"""Sort the emoji of ``emoji-datasource-*`` npm packages into classes: an example of your own captioned images.

    for vendor in google twitter apple facebook; do npm pack emoji-datasource-$vendor@16.0.0; done
    python examples/icons.py emoji-datasource-*-16.0.0.tgz    # data/icons and data/icons.csv

Writes data/icons/VENDOR/NAME.png, 64x64 RGBA, without the variants by skin tone. The table has each picture's split,
its class such as animals_nature, its kind such as animal-mammal, its vendor, and its name as the caption. Of some emoji
the drawing of one vendor is held out, so the words of its caption are in training with the other vendors' drawings.

Licences: MIT for the packages, Apache 2.0 for Google's drawings (Noto Emoji), CC BY 4.0 for Twitter's (Twemoji).
Apple's and Facebook's drawings are theirs: train on them, publish none.
"""

import csv
import hashlib
import json
import re
import sys
import tarfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PICTURES, TABLE = Path("data/icons"), Path("data/icons.csv")
TEST, VAL = 72, 32  # emoji of 256 with a drawing that is held out


class Icon(NamedTuple):
    """A row of the table, and the picture."""

    vendor: str
    name: str
    """Of the file, without its ending."""
    label: str
    kind: str
    caption: str
    content: bytes


def splits_of(icons: Sequence[Icon]) -> list[str]:
    """Return the split of each icon, by hashes of the emoji's names.

    Emoji of one vendor are in training. So is a drawing that equals one in training, such as flags of the same colours.
    """
    vendors, splits = defaultdict(list), []
    for icon in icons:
        vendors[icon.name].append(icon.vendor)
    for icon in icons:
        number, which = hashlib.sha256(icon.name.encode()).digest()[:2]
        drawn_by = sorted(vendors[icon.name])
        held_out = len(drawn_by) > 1 and drawn_by[which % len(drawn_by)] == icon.vendor
        split = "test" if number < TEST else "val" if number < TEST + VAL else "train"
        splits.append(split if held_out else "train")
    training = {icon.content for icon, split in zip(icons, splits, strict=True) if split == "train"}
    return ["train" if icon.content in training else split for icon, split in zip(icons, splits, strict=True)]


def main(packages: Sequence[Path]) -> None:
    """Write the pictures of the .tgz ``packages``, and their table."""
    icons = []
    for package in packages:
        vendor = re.search(r"emoji-datasource-([a-z]+)", package.name)[1]
        with tarfile.open(package, "r:gz") as archive:
            listed = json.load(archive.extractfile("package/emoji.json"))
            # "Component" holds skin tones alone.
            shown = [item for item in listed if item[f"has_img_{vendor}"] and item["category"] != "Component"]
            emoji = {item["image"]: item for item in shown}
            for member in archive:
                path = Path(member.name)
                if path.parent.name == "64" and path.name in emoji:
                    item = emoji[path.name]
                    name = re.sub(r"[^a-z0-9-]", "_", item["short_name"])
                    label = re.sub(r"\W+", "_", item["category"].lower())
                    content = archive.extractfile(member).read()
                    icons.append(Icon(vendor, name, label, item["subcategory"], item["name"].lower(), content))
    rows = []
    for icon, split in zip(icons, splits_of(icons), strict=True):
        path = Path(icon.vendor, f"{icon.name}.png")
        (PICTURES / path).parent.mkdir(parents=True, exist_ok=True)
        (PICTURES / path).write_bytes(icon.content)
        rows.append((path.as_posix(), split, icon.label, icon.kind, icon.vendor, icon.caption))
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "split", "label", "kind", "vendor", "caption"), *sorted(rows)])


if __name__ == "__main__":
    main([Path(package) for package in sys.argv[1:]])
