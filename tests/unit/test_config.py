from __future__ import annotations

import re
from pathlib import Path

import pytest

from meshwork import config
from meshwork.contract import SERVICES
from meshwork.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    file = folder / "mesh.yaml"
    file.write_text(text)
    return file


def test_the_embedded_default_has_all_services_and_survives_json_and_yaml(tmp_path: Path) -> None:
    default = config.read()
    assert list(default.services) == list(SERVICES)
    assert config.from_json(config.to_json(default)) == default
    assert config.read(written(tmp_path, config.to_yaml(default))) == default


def test_a_file_without_services_has_the_default_ones(tmp_path: Path) -> None:
    assert config.read(written(tmp_path, "name: mine\n")).services == config.read().services


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert config.read(written(tmp_path, "")) == config.read()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("name: Not A Name\n", 1, "name"),
        ("gateway:\n  listen: 8080\n", 2, "gateway.listen"),
        ("gateway:\n  listen: localhost:99999\n", 2, "from 1 to 65535"),
        ("gateway:\n  port: 8080\n", 2, "no such setting"),
        ("services:\n  nlp:\n    replicas: many\n", 3, "services.nlp.replicas"),
        ("services:\n  nlp:\n    replicas: -1\n", 3, "greater than or equal to 0"),
        ("services:\n  sight: {}\n", 2, "vision"),
        ("services:\n  nlp:\n    models:\n      - source: ''\n", 4, "models[0].source"),
        ("services:\n  nlp:\n    policy: best\n", 3, "weighted_round_robin"),
        ("services:\n  nlp:\n    policy:\n      retries: 99\n", 4, "less than or equal to 10"),
        ("services:\n  nlp:\n    policy: ring_hash\n", 3, "hash_by"),
        ("services:\n  nlp:\n    policy: {hash_by: {}}\n", 3, "should name one"),
        ("services:\n  nlp:\n    policy: {balnce: a}\n", 3, "no such setting"),
        ("services:\n  nlp:\n    zone: a zone\n", 3, "services.nlp.zone"),
        ("services: [\n", 2, ""),
        ("- a list\n", 1, ""),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        config.read(file)
    assert f"{file}:{line}: " in str(error.value)
    assert says in str(error.value)


def test_what_is_no_redis_is_named_without_its_password(tmp_path: Path) -> None:
    file = written(tmp_path, "name: x\nredis: redis+cluster://:secret@a/3\n")
    with pytest.raises(ConfigError, match=r"mesh\.yaml:2: redis: .*no database but 0, not 3") as caught:
        config.read(file)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"--redis: .*name the master"):
        config.read().with_redis("redis+sentinel://a")
    assert config.read().with_redis("redis+sentinel://a,b:1/m/2").redis == "redis+sentinel://a,b:1/m/2"


def test_the_mesh_file_in_the_readme_is_good(tmp_path: Path) -> None:
    readme = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    (example,) = (block for block in blocks if "locality: prefer" in block)
    made = config.read(written(tmp_path, example))
    assert made.services["nlp"].policy.locality == "prefer"
    assert config.read(written(tmp_path, config.to_yaml(made))) == made


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        config.read(tmp_path / "nowhere.yaml")


def test_a_relative_model_path_is_relative_to_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "services:\n  vision:\n    models:\n      - source: models/mine\n")
    assert config.read(file).services["vision"].models[0].source == str(tmp_path / "models/mine")


def test_flags_change_replicas_port_and_redis() -> None:
    changed = config.read().with_replicas({"nlp": 2}).with_port(9000).with_redis("redis://x")
    assert changed.services["nlp"].replicas == 2
    assert changed.gateway.listen == "127.0.0.1:9000"
    assert changed.redis == "redis://x"
    with pytest.raises(ConfigError, match="vision"):
        config.read().with_replicas({"sight": 2})
