"""Texts of plots: names in any script, drawn with the fonts that this machine has."""

import itertools
import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.ft2font import FaceFlags
from matplotlib.ticker import LogFormatter

_FIRST = "DejaVu Sans"  # comes with matplotlib, and has Latin, Greek, Cyrillic, Arabic, Hebrew and symbols
_LONGEST = 80  # characters of a line
_LONGEST_NAME = 32  # characters; longer names would leave no room for the bars above them
_CONTROLS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode categories that draw nothing, or move what follows
_JOINERS = "\u200c\u200d"  # of the category Cf, but Persian and Indic words need them
_NO_LETTERS = re.compile(r"^cm[a-z]+10$|^STIX(Non|Size)|last ?resort|fallback|blank|notdef", re.IGNORECASE)
_family: dict[str, str | None] = {}  # character -> first family of fonts that has it; None = no font has it
_log = logging.getLogger(__name__)


class PlainLogFormatter(LogFormatter):
    """Labels of a logarithmic axis as plain numbers (0.01), since texts are not read as mathematics."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label at ``x``, empty where matplotlib would draw none."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def drawable(text: str, longest: int = _LONGEST) -> str:
    r"""Return ``text`` in one line of at most ``longest`` characters, without its middle where it has more.

    A character that no font has, or that draws nothing, becomes an escape such as ``\u732b``.
    """
    _find(text)
    drawn = [char if _family[char] and _is_visible(char) else _escape(char) for char in text]
    if sum(map(len, drawn)) <= longest:
        return "".join(drawn)
    return f"{''.join(_first(drawn, longest // 2))}\u2026{''.join(_first(drawn[::-1], longest // 2)[::-1])}"


def short_name(name: str) -> str:
    """Return a class, attribute or line as :func:`drawable` does, short enough to leave room for the plot."""
    return drawable(name, _LONGEST_NAME)


def _first(drawn: list[str], longest: int) -> list[str]:
    """Return the first entries, with fewer than ``longest`` characters."""
    lengths = itertools.accumulate(map(len, drawn))
    return [char for char, length in zip(drawn, lengths, strict=True) if length < longest]


@contextmanager
def text_settings(texts: Iterable[str]) -> Iterator[None]:
    """Let matplotlib draw ``texts`` as they are: no ``$`` is mathematics, and fonts that have their characters."""
    characters = "".join(texts)
    _find(characters)
    used = {family for char in characters if (family := _family[char])}
    others = [family for family in _families() if family in used]
    with _without_font_warnings(), matplotlib.rc_context({"text.parse_math": False, "font.family": [_FIRST, *others]}):
        yield


def _is_visible(char: str) -> bool:
    return char in _JOINERS or unicodedata.category(char) not in _CONTROLS


def _escape(char: str) -> str:
    return repr(char)[1:-1] if not char.isprintable() else char.encode("ascii", "backslashreplace").decode()


def _find(characters: str) -> None:
    """Look up the family of each character that is new. Other fonts are opened only where the first lacks one."""
    missing = set(characters) - _family.keys()
    for name in _families() if missing else ():
        try:
            with _without_font_warnings():
                path = findfont(FontProperties(family=[name]), fallback_to_default=False)
            font = get_font(path)
            found = (
                missing & {chr(code) for code in font.get_charmap()} if FaceFlags.SCALABLE in font.face_flags else ()
            )
        except (OSError, RuntimeError, ValueError):  # removed since matplotlib listed it, or damaged
            continue
        if not found or FaceFlags.COLOR in font.face_flags:  # matplotlib draws no coloured glyphs
            continue
        _family.update(dict.fromkeys(found, name))
        missing -= set(found)
        if not missing:
            return
    _family.update(dict.fromkeys(missing))
    if drawn := sorted(char for char in missing if _is_visible(char)):
        _log.warning(
            "characters that figures show as escapes, since no installed font has them: %d, such as %s for %s; "
            "install a font that does, such as Noto Sans CJK or Noto Emoji, and remove %s/fontlist-*.json",
            len(drawn),
            _escape(drawn[0]),
            drawn[0],
            matplotlib.get_cachedir(),
        )


@contextmanager
def _without_font_warnings() -> Iterator[None]:
    """Silence matplotlib's remark, for every size of text anew, that a family has another weight than asked for."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _families() -> list[str]:
    """Return the installed families that may have letters, in an order that depends on nothing else."""
    regular = {font.name for font in fontManager.ttflist if font.style == "normal" and font.weight in (400, "normal")}

    def rank(family: str) -> tuple[bool, bool, bool, bool, str]:
        lower = family.lower()
        return family != _FIRST, family not in regular, "sans" not in lower, "mono" in lower, family

    families = {font.name for font in fontManager.ttflist}
    return sorted((family for family in families if not _NO_LETTERS.search(family)), key=rank)
