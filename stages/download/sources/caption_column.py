"""The column of a table that holds captions, by its name."""

import re
from collections.abc import Collection

from latentline.core.errors import UserError
from stages.download.source import SourceOptions

NAMES = ("caption", "text")


def caption_column(names: Collection[str], options: SourceOptions, where: str) -> str | None:
    """Return the column of ``names`` that holds captions; None = there is none, or ``data.captions`` is none.

    A column that ``data.attributes`` names is an attribute.

    Args:
        names: of the columns of texts.
        options: ``captions`` and ``attributes``.
        where: names the table in errors.

    Raises:
        UserError: two such columns, or one with a name that nearly is ``caption`` or ``text``.
    """
    if options.captions == "none":
        return None
    others = [name for name in names if name not in options.attributes]
    found = [name for name in others if name in NAMES]
    if len(found) > 1:
        raise UserError(
            f"{where}: columns {found[0]!r} and {found[1]!r} must not both be there, since either may be the caption; "
            f"remove or rename one, or set data.attributes: {{{found[1]}: categorical}}"
        )
    near = [name for name in others if re.sub(r"[\W_]", "", name.lower()).removesuffix("s") in NAMES]
    if near and not found:
        raise UserError(
            f"{where}: column {near[0]!r} must be called 'caption' or be an attribute; did you mean 'caption'? "
            f"rename it, or set data.attributes: {{{near[0]}: categorical}}"
        )
    return found[0] if found else None
