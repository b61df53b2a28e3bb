"""Names of images for the labels of grids."""

from latentline.core.labels import LabelTable, class_names


def image_names(labels: LabelTable, kind: str = "image") -> list[str]:
    """Return the class of each image or, where there are no classes, its ``kind`` and number, from 1."""
    if labels.classes is None:
        return [f"{kind} {number + 1}" for number in range(len(labels))]
    classes = class_names(labels.schema)
    return [classes[index] for index in labels.classes.tolist()]


def first_of(shown: int, total: int, what: str) -> str:
    """Return a sentence that says how many are drawn, or nothing where all are."""
    return f" The first {shown} of {total} {what}." if shown < total else ""
