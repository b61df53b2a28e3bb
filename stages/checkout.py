"""Importing this puts this checkout's own src/ first, whatever is installed: experiments run in copies of the repository."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
