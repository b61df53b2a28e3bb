"""The pipeline: one package per DVC stage, run as ``python -m stages.NAME``.

Importing it puts this checkout's own src/ first, whatever is installed, since ``dvc exp run --temp`` runs in copies of
the repository.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
