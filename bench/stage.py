"""A stage of the trainer in a process whose device is given and whose peak is kept: `trainer.rlhf` for benchmarks.

    python -m bench.stage DEVICE PEAK_FILE reward FOLDER

The peak, in GiB, is written however the stage ends; the exit code is the stage's.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.default_base import use_device
from bench.peak import peak_gb


def main() -> int:
    device, peak_file, *arguments = sys.argv[1:]
    use_device(device)
    from trainer.rlhf.__main__ import main as run_stage

    try:
        return run_stage(arguments)
    finally:
        Path(peak_file).write_text(str(peak_gb(device)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
