from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from meshwork.cli.app import main


def test_the_log_of_each_gateway_has_its_routers_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHWORK_HOME", str(tmp_path))
    for name in ("run/envoy", "run/router-2/envoy", "logs/router-2"):
        file = tmp_path / f"{name}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"said by {name}\n")

    def said(*words: str) -> dict[str, str]:
        lines = CliRunner().invoke(main, ["logs", *words]).output.splitlines()
        return {name.strip(): text.strip() for name, _, text in (line.partition("|") for line in lines)}

    assert said() == {
        "envoy": "said by run/envoy",
        "envoy-2": "said by run/router-2/envoy",
        "router-2": "said by logs/router-2",
    }
    assert said("envoy").keys() == {"envoy", "envoy-2"}
    assert said("envoy-2").keys() == {"envoy-2"}
    assert "envoy, envoy-2, router-2" in CliRunner().invoke(main, ["logs", "zebra"]).output
