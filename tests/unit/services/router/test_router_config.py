import pytest

from meshwork.errors import ConfigError
from meshwork.policy import Policy
from services.router.config import RouterConfig


def test_the_environment_is_read() -> None:
    config = RouterConfig.from_environment(
        {
            "MESHWORK_ROUTER_LISTEN": "0.0.0.0:9001",
            "MESHWORK_GATEWAY_LISTEN": "[::1]:8080",
            "MESHWORK_MAX_MESSAGE_BYTES": "4096",
            "MESHWORK_POLICIES": '{"nlp": "least_request"}',
            "UNRELATED": "x",
        }
    )
    assert config.discovery == ("127.0.0.1:9001",)
    assert config.max_message_bytes == 4096
    assert config.policies == {"nlp": Policy(balance="least_request")}


def test_several_routers_are_all_named_to_clients() -> None:
    config = RouterConfig.from_environment({"MESHWORK_ROUTERS": "10.0.0.1:9000, 10.0.0.2:9000"})
    assert config.discovery == ("10.0.0.1:9000", "10.0.0.2:9000")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MESHWORK_REDIS_URL", "redis+sentinel://a"),
        ("MESHWORK_ROUTER_LISTEN", "9000"),
        ("MESHWORK_ROUTER_LISTEN", "127.0.0.1:0"),
        ("MESHWORK_GATEWAY_LISTEN", "localhost:http"),
        ("MESHWORK_ROUTERS", "a:1,b"),
        ("MESHWORK_MAX_MESSAGE_BYTES", "64MB"),
        ("MESHWORK_MAX_MESSAGE_BYTES", "12"),
        ("MESHWORK_GATEWAY_THREADS", "0"),
        ("MESHWORK_POLICIES", "{"),
        ("MESHWORK_POLICIES", '{"nlp": "fastest"}'),
        ("MESHWORK_POLICIES", '{"nlp": "ring_hash"}'),
        ("MESHWORK_POLICIES", '{"nlp": {"balance": "ring_hash", "hash_by": {"field": "nobody"}}}'),
        ("MESHWORK_POLICIES", '{"nlp": {"models": {"m": {"balance": "ring_hash"}}}}'),
        ("MESHWORK_POLICIES", '{"nlp": {"retries": 99}}'),
        ("MESHWORK_CORS_ORIGINS", "("),
    ],
)
def test_what_can_not_be_used_is_named(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        RouterConfig.from_environment({variable: value})


@pytest.mark.parametrize(
    ("given", "listens"),
    [
        ("localhost:8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080", "0.0.0.0:8080"),
        ("[::1]:8080", "[::1]:8080"),
    ],
)
def test_the_gateway_listens_on_a_numeric_address_whatever_its_name(given: str, listens: str) -> None:
    assert RouterConfig.from_environment({"MESHWORK_GATEWAY_LISTEN": given}).gateway_listen == listens


@pytest.mark.parametrize("given", ["no-such-host.invalid:8080", "localhost", "localhost:99999"])
def test_an_address_that_none_can_listen_on_is_refused_by_its_variable(given: str) -> None:
    with pytest.raises(ConfigError, match="MESHWORK_GATEWAY_LISTEN"):
        RouterConfig.from_environment({"MESHWORK_GATEWAY_LISTEN": given})
