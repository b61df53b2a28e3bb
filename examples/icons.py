"""Sort the emoji of an ``emoji-datasource-*`` npm package into class folders: an example of your own images.

    npm pack emoji-datasource-google@16.0.0
    python examples/icons.py emoji-datasource-google-16.0.0.tgz data/source/icons

Writes CATEGORY/NAME.png, 64x64 RGBA, without the variants by skin tone. Licences: MIT for the package, Apache 2.0 for
Google's drawings (Noto Emoji).
"""

import json
import re
import sys
import tarfile
from pathlib import Path

MEMBERS = re.compile(r"package/img/[a-z]+/64/[0-9a-f-]+\.png")


def main(package: Path, folder: Path) -> None:
    """Read the .tgz ``package`` in place and write its images below ``folder``."""
    with tarfile.open(package, "r:gz") as archive:
        listed = archive.extractfile("package/emoji.json")
        emoji = {item["image"]: item for item in json.load(listed)} if listed else {}
        for member in archive:
            icon = emoji.get(Path(member.name).name)
            # "Component" holds skin tones alone.
            if icon and MEMBERS.fullmatch(member.name) and icon["category"] != "Component":
                category = folder / re.sub(r"\W+", "_", icon["category"].lower())
                category.mkdir(parents=True, exist_ok=True)
                image = archive.extractfile(member)
                name = re.sub(r"[^a-z0-9-]", "_", icon["short_name"])
                (category / f"{name}.png").write_bytes(image.read() if image else b"")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
