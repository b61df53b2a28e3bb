"""Sort the emoji of ``emoji-datasource-*`` npm packages into classes: an example of your own images.

    for vendor in google twitter apple facebook; do npm pack emoji-datasource-$vendor@16.0.0; done
    python examples/icons.py emoji-datasource-*-16.0.0.tgz    # data/icons and data/icons.csv

Writes data/icons/VENDOR/NAME.png, 64x64 RGBA, without the variants by skin tone. The table has each picture's split,
its class such as animals_nature, its kind such as animal-mammal, and its vendor. All drawings of an emoji are in the
same split, so the test has no emoji that training has.

Licences: MIT for the packages, Apache 2.0 for Google's drawings (Noto Emoji), CC BY 4.0 for Twitter's (Twemoji).
Apple's and Facebook's drawings are theirs: train on them, publish none.
"""

import csv
import hashlib
import json
import re
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

PICTURES, TABLE = Path("data/icons"), Path("data/icons.csv")
TEST, VAL = 16, 8  # of 256 emoji


def split_of(emoji: str) -> str:
    """Return the split of an emoji, by a hash of its name."""
    number = hashlib.sha256(emoji.encode()).digest()[0]
    return "test" if number < TEST else "val" if number < TEST + VAL else "train"


def main(packages: Sequence[Path]) -> None:
    """Write the pictures of the .tgz ``packages``, and their table."""
    rows = []
    for package in packages:
        vendor = re.search(r"emoji-datasource-([a-z]+)", package.name)[1]
        folder = PICTURES / vendor
        folder.mkdir(parents=True, exist_ok=True)
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
                    (folder / f"{name}.png").write_bytes(archive.extractfile(member).read())
                    label = re.sub(r"\W+", "_", item["category"].lower())
                    rows.append((f"{vendor}/{name}.png", split_of(name), label, item["subcategory"], vendor))
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "split", "label", "kind", "vendor"), *sorted(rows)])


if __name__ == "__main__":
    main([Path(package) for package in sys.argv[1:]])
