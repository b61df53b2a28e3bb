"""Which package of the library may import which, and the table of it in CONTRIBUTING.md (``make deps`` writes it)."""

import ast
import sys
from pathlib import Path

MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "data": {"core"},
    "nn": {"core"},
    "diffusion": {"core"},
    "evaluation": {"core"},
    "figures": {"core"},
    "editing": {"core", "latents"},
    "probes": {"core"},
    "latents": {"core"},
    "runtime": {"core"},
    "training": {"core", "runtime"},
    "autoencoders": {"core", "data", "nn", "diffusion", "runtime"},
    "denoisers": {"core", "nn", "diffusion", "latents", "runtime"},
    "samplers": {"core", "denoisers", "diffusion", "runtime"},
    "feature_extractors": {"core", "data", "latents", "nn", "runtime", "training"},
    "interop": {"core", "nn", "autoencoders"},
    "tools": {"core", "autoencoders", "data", "denoisers", "diffusion", "interop", "latents", "runtime", "samplers"},
    "report": {"core", "tools"},
    "web": {"core", "diffusion", "editing", "latents", "probes", "tools"},
    "explorer": {
        "autoencoders",
        "core",
        "data",
        "denoisers",
        "diffusion",
        "editing",
        "feature_extractors",
        "figures",
        "latents",
        "probes",
        "report",
        "runtime",
        "samplers",
    },
}
"""Packages of latentline that each may import, besides itself.

Stages may import all but ``tools``, ``report``, ``web`` and ``explorer``.
"""
PUBLIC_NAMES = {"TrainedModel", "load"}
"""Names of ``latentline`` itself, above all packages: :mod:`latentline.trained_model`."""
MAY_IMPORT_PUBLIC_NAMES = {"explorer"}
"""Packages above the public names, which may therefore import them."""

_BEGIN, _END = "<!-- imports -->", "<!-- /imports -->"


def table(source: Path) -> str:
    """Return the table as Markdown. The first docstring line of ``source``/PACKAGE/__init__.py says what it holds."""
    rows = ["| package | holds | may import |", "|---|---|---|"]
    for package, allowed in MAY_IMPORT.items():
        docstring = ast.get_docstring(ast.parse((source / package / "__init__.py").read_text(encoding="utf-8"))) or ""
        above = ["`from latentline import load`"] if package in MAY_IMPORT_PUBLIC_NAMES else []
        names = ", ".join([*sorted(allowed), *above]) or "nothing of ours"
        rows.append(f"| `{package}` | {docstring.splitlines()[0]} | {names} |")
    return "\n".join(rows)


def with_table(page: str, rows: str) -> str:
    """Return ``page`` with ``rows`` between its two markers."""
    before, after = page.split(_BEGIN, maxsplit=1)[0], page.split(_END)[1]
    return f"{before}{_BEGIN}\n{rows}\n{_END}{after}"


def main() -> None:
    """Rewrite the table in ./CONTRIBUTING.md."""
    page = Path("CONTRIBUTING.md")
    page.write_text(with_table(page.read_text(encoding="utf-8"), table(Path("src/latentline"))), encoding="utf-8")
    print("CONTRIBUTING.md: table of imports written", file=sys.stderr)


if __name__ == "__main__":
    main()
