"""The virtual environment of clients that can't share ours: `python -m tests.interop.environment` makes it.

It lies beside our packages, in `.venv/interop`, and is made anew when `requirements.txt` changes.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
FOLDER = Path(sys.prefix) / "interop"


def python() -> Path:
    """Python of the environment, made if it is not there."""
    python, done = FOLDER / "bin" / "python", FOLDER / "requirements.txt"
    with FOLDER.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = REQUIREMENTS.read_text()
        if not done.exists() or done.read_text() != wanted:
            subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", FOLDER], check=True)
            pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
            subprocess.run([*pip, "install", "--quiet", "--requirement", REQUIREMENTS], check=True)
            done.write_text(wanted)
    return python


if __name__ == "__main__":
    python()
