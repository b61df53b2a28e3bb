"""What images are to become."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from latentline.core.attributes import CLASS, Attribute
from latentline.core.errors import UserError

_MOST_LISTED = 60  # names in an error


@dataclass(frozen=True)
class Target:
    """What images are to become: one class of a column, an attribute that is present, or a number above the mean of the training images."""

    place: int  # of the column among all
    column: Attribute
    kind: int  # the class, where there are classes

    @property
    def name(self) -> str:
        """The class's name, ``attribute=value`` of another categorical column, or the attribute's name."""
        if not self.column.classes:
            return self.column.name
        value = self.column.classes[self.kind]
        return value if self.column.name == CLASS else f"{self.column.name}={value}"

    def holds(self, values: Tensor) -> Tensor:
        """Values (N, A) -> which images are so already, bool (N,)."""
        known = values[:, self.place]
        if self.column.classes:
            return known == self.kind
        return known > (0.5 if self.column.kind == "binary" else self.column.mean)

    def others(self, values: Tensor, count: int) -> Tensor:
        """Rows of the first ``count`` images that are not so."""
        return self.holds(values).logical_not().nonzero()[:count, 0]

    def told(self, values: Tensor) -> Tensor:
        """Values (N, A) with this column as it is to become: the class, 1, or a standard deviation above the mean."""
        wanted = values.clone()
        number = {"categorical": float(self.kind), "binary": 1.0, "continuous": self.column.mean + self.column.std}
        wanted[:, self.place] = number[self.column.kind]
        return wanted


def all_targets(columns: Sequence[Attribute]) -> list[Target]:
    """One for each output of a classifier of ``columns``, in that order."""
    return [Target(place, column, kind) for place, column in enumerate(columns) for kind in range(column.num_logits)]


def require_names(knob: str, wanted: Sequence[str], names: Sequence[str]) -> None:
    """Raise UserError unless each of ``wanted``, the value of ``knob``, is one of ``names``."""
    listed = [*names[:_MOST_LISTED], *(["..."] if len(names) > _MOST_LISTED else [])]
    for name in wanted:
        if name not in names:
            raise UserError(
                f"{knob}: {name!r} is unknown; expected one of {', '.join(listed) or 'none, as nothing is known here'}; correct it"
            )
