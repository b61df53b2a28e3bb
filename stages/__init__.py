"""The pipeline: one package per DVC stage, run as ``python -m stages.NAME``.

Importing it puts this checkout's own src/ first, whatever is installed, since ``dvc exp run --temp`` runs in copies of
the repository. It also shortens the time for which waiting threads spin: that must happen before torch is imported.
"""

import os
import sys
from pathlib import Path

# A thread that spins takes a core from its neighbours, for which its own process then waits. See docs/scaling.md.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
