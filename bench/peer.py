"""The environments of the peers: each release of TRL in a virtual environment of its own, made on first use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

SHARED = ["torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0", "datasets==5.2.0", "peft==0.21.2"]


class Peer(NamedTuple):
    """A release of TRL, and the folder of its environment."""

    release: str
    folder: Path

    def python(self) -> str:
        """The environment's interpreter; installs about 1 GB the first time."""
        python = self.folder / "bin" / "python"
        if not (self.folder / "installed").exists():
            print(f"making {self.folder} (about 1 GB)", file=sys.stderr, flush=True)
            if not python.exists():
                subprocess.run([sys.executable, "-m", "venv", str(self.folder)], check=True)
            packages = [f"trl=={self.release}", *SHARED]
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
            (self.folder / "installed").touch()
        return str(python)

    def run(self, module: str, *arguments: str, given: Any = None) -> Any:
        """What `python -m module` prints in its last line, as JSON; `given` goes to its standard input as JSON."""
        command = [self.python(), "-m", module, *arguments]
        quiet = os.environ | {"TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
        text = json.dumps(given)
        output = subprocess.run(command, check=True, input=text, stdout=subprocess.PIPE, text=True, env=quiet).stdout
        return json.loads(output.splitlines()[-1])


PPO_PEER = Peer("1.12.0", Path(".venv-trl112"))  # the last with a PPO trainer
REWARD_PEER = Peer("1.16.0", Path(".venv-trl116"))
