#!/usr/bin/env python3
"""`lift3d label` for ScanNet, as a script: the same options, the same code, `scannet` as the default reader.

jobs/label_scannet.py SOURCE --store URI --operator SPEC
ray job submit --working-dir . -- python jobs/label_scannet.py SOURCE --store URI --operator SPEC
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Run by path, Python looks for modules in the script's own folder; the packages lie one above it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from jobs.cli import main_label

    main_label(default_reader="scannet")
