"""Makes everything that is generated from `protos/`: run by `make generate`.

Writes message and service classes with their types, and the SDK's clients, in the import path that
the proto package names, and `meshwork/descriptors.binpb` (all files, imports and comments included)
for Envoy's transcoder, the CLI and the linter. `--check` fails when a file on disk is stale.
"""

from __future__ import annotations

import argparse
import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.api import annotations_pb2

from tools.generate_clients import write_clients

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
DESCRIPTORS = "meshwork/descriptors.binpb"


def generate(out: Path) -> None:
    """Generates into `out`, laid out as the repository is."""
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    (out / "meshwork").mkdir(parents=True, exist_ok=True)
    includes = [
        PROTOS,
        Path(annotations_pb2.__file__).parents[2],
        Path(grpc_tools.__file__).parent / "_proto",
    ]
    plugins = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).with_name(f'protoc-gen-{name}')}"
        for name in ("mypy", "mypy_grpc")
    ]
    arguments = [
        "protoc",
        *plugins,
        *(f"-I{include}" for include in includes),
        f"--python_out={out}",
        f"--mypy_out={out}",
        f"--descriptor_set_out={out / DESCRIPTORS}",
        "--include_imports",
        "--include_source_info",
        *files,
    ]
    services = [file for file in files if "\nservice " in (PROTOS / file).read_text()]
    stubs = [
        "protoc",
        *plugins,
        *(f"-I{include}" for include in includes),
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out={out}",
        *services,
    ]
    for command in (arguments, stubs):
        # A process of its own, since the plugins announce each file; said only if it fails.
        done = subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", *command[1:]], capture_output=True, text=True
        )
        if done.returncode != 0:
            sys.exit(done.stderr)
    write_clients(out / DESCRIPTORS, out)


def main() -> None:
    """Generates, or with `--check` compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check = parser.parse_args().check
    if not check:
        generate(ROOT)
        return
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        names = [path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()]
        stale = [
            str(name)
            for name in sorted(names)
            if not (ROOT / name).is_file() or not filecmp.cmp(fresh / name, ROOT / name, shallow=False)
        ]
        made = {str(name) for name in names}
        orphans = [
            str(path.relative_to(ROOT))
            for path in [*ROOT.glob("meshwork/*/v1/*_pb2*"), *ROOT.glob("meshwork/*/v1/*_client.py")]
            if str(path.relative_to(ROOT)) not in made
        ]
    if stale or orphans:
        sys.exit(f"stale, run `make generate`: {' '.join(stale + orphans)}")


if __name__ == "__main__":
    main()
