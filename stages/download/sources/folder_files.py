"""Files of the user's folder: which are images, and what kind the others are."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from latentline.core.watched import walk_watched
from latentline.data.image_files import LITTER, is_litter, kind_left_out

EMPTY = "empty folder"


@dataclass(frozen=True)
class FolderFiles:
    """Files below a folder, by their relative names with slashes, sorted."""

    images: list[str]
    left_out: dict[str, str]
    """Name -> kind; names of folders end in a slash."""

    def kinds(self) -> Counter[str]:
        """Return how many files of each kind are left out, without those that no user gave."""
        return Counter(kind for kind in self.left_out.values() if kind not in (LITTER, EMPTY))


def list_folder(root: Path, labels: Path) -> FolderFiles:
    """Return the files below ``root`` except the table ``labels``. Raises UserError for what DVC cannot watch."""
    images, left_out = [], {}
    for folder, subfolders, files in walk_watched("data.path", root, is_litter):
        if folder and not subfolders and not files:
            left_out[f"{folder}/"] = EMPTY
        for name in subfolders:
            if is_litter(name):
                left_out[_relative(folder, name) + "/"] = LITTER
        for name in files:
            path = root / folder / name
            if (kind := kind_left_out(path)) is None:
                images.append(_relative(folder, name))
            elif path.name != labels.name or not path.samefile(labels):
                left_out[_relative(folder, name)] = kind
    return FolderFiles(sorted(images), dict(sorted(left_out.items())))


def _relative(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
