"""Write report.html: ``make report``, ``make report DIR=sent BASE=main``."""

import sys
from pathlib import Path

from latentline.core.errors import UserError
from latentline.core.files import replaced_file
from latentline.report.page import report_page
from latentline.report.run import read_revision, read_workspace

FILE = "report.html"


def write_report(folder: Path, base: str = "") -> Path:
    """Write ``folder``/report.html of the run in the current folder, beside revision ``base``, and return its path.

    Raises:
        UserError: there is no finished run here or at ``base``, or the folder cannot be written.
    """
    runs = [read_workspace(), *([read_revision(base)] if base else [])]
    page = report_page(runs, Path())
    try:
        with replaced_file(folder / FILE) as temporary:
            temporary.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"DIR ({folder}) must be a folder to write ({error.strerror}); take another") from None
    return folder / FILE


def main(arguments: list[str]) -> int:
    """Write the report for the arguments DIR and BASE, both optional, and return the exit status."""
    folder, base = [*arguments, "", ""][:2]
    try:
        print(f"wrote {write_report(Path(folder or '.'), base)}; open it in any browser")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
