"""Inside the mesh, a channel to `xds:///SERVICE` reaches replicas without the gateway."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.mesh.conftest import Mesh

SCRIPT = """
import sys, meshwork
with meshwork.connect("xds:///", router=sys.argv[1]) as mesh:
    seen = {mesh.nlp.embed("hello", timeout_s=20).served_by.replica for _ in range(40)}
    found = mesh.translation.detect_language("guten Tag, wie geht es dir").languages[0]
    print(len(seen), found.language_code)
"""


@pytest.mark.usefixtures("two_nlp")
def test_a_proxyless_client_uses_every_replica(mesh: Mesh) -> None:
    # A process of its own: gRPC reads its xDS bootstrap once a process.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, mesh.record().router], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "de"]
