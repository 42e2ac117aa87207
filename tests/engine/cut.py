"""`python -m tests.engine.cut FOLDER`: a build on workers, in a network that is cut; see `test_cluster`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.engine.test_cluster import cut

if __name__ == "__main__":
    cut(Path(sys.argv[1]), 5.0)
