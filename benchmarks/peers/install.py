"""Virtual environments of the peers: one each, and torch once for all of them.

A `.pth` file in each environment names the shared one's packages. Python reads it last, so that
whatever a peer brings itself comes first.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.places import VENVS

PINS = Path(__file__).with_name("peers.toml")
SHARED = "shared"
_MARK = ".installed"


def environments() -> dict[str, dict[str, object]]:
    """What `peers.toml` says, by environment."""
    return tomllib.loads(PINS.read_text(encoding="utf-8"))


def python(name: str) -> Path:
    """The interpreter of an environment, installed or not."""
    return VENVS / name / "bin" / "python"


def installed(name: str) -> bool:
    """Whether the environment holds what `peers.toml` says now."""
    mark = VENVS / name / _MARK
    return mark.is_file() and mark.read_text(encoding="utf-8") == _wanted(name)


def install(names: Sequence[str]) -> None:
    """Makes the environments that are missing or out of date: the shared one, and the named ones or all.

    Raises:
        SystemExit: a name is unknown.
        subprocess.CalledProcessError: pip failed; what it said stands on standard error.
    """
    known = environments()
    unknown = set(names) - set(known)
    if unknown:
        sys.exit(f"no peer {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    for name in known:
        if (name == SHARED or not names or name in names) and not installed(name):
            _install(name)


def _install(name: str) -> None:
    entry = environments()[name]
    base = Path(str(entry.get("python", sys.executable)))
    print(f"installing {name} into {VENVS / name}", flush=True)
    subprocess.run(
        [base if base.exists() else sys.executable, "-m", "venv", "--clear", "--without-pip", VENVS / name],
        check=True,
    )
    packages = entry["packages"]
    assert isinstance(packages, list)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python(name), "install", "--quiet", *packages], check=True
    )
    if name != SHARED:
        (_site_packages(name) / "zz_shared.pth").write_text(f"{_site_packages(SHARED)}\n", encoding="utf-8")
    (VENVS / name / _MARK).write_text(_wanted(name), encoding="utf-8")


def _wanted(name: str) -> str:
    return repr(environments()[name])


def _site_packages(name: str) -> Path:
    return next((VENVS / name / "lib").glob("python3*")) / "site-packages"
