"""The connection to Redis, with the waits that every process uses.

::

    redis://[USER:PASSWORD@]HOST[:6379][/DB]                            one server
    unix:///PATH[?db=DB]                                                one on this machine
    redis+sentinel://[USER:PASSWORD@]HOST[:26379],HOST,.../MASTER[/DB]  the master that Sentinels name
    redis+cluster://[USER:PASSWORD@]HOST[:6379],HOST,...                a cluster, by some of its nodes
    rediss://, rediss+sentinel://, rediss+cluster://                    the same by TLS

`?NAME=VALUE` behind it sets an option of redis-py, for example `ssl_ca_certs=/etc/ca.pem`. Sentinels
that want a password of their own get `sentinel_username` and `sentinel_password` from there.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from meshwork.errors import ConfigError
from meshwork.state.primary import Address, ByCluster, BySentinels, Primary

CONNECT_TIMEOUT_S = 2.0
REPLY_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 1.0  # for a Sentinel, or a node of a cluster, to say where the primary is
RETRIES = 2
SENTINEL_PORT, REDIS_PORT = 26379, 6379

# What a call raises while Redis is away, or there but read-only, full, or unable to save; callers on
# a loop catch these and go on.
REDIS_AWAY = (RedisError, OSError)

_SCHEME = re.compile(r"(rediss?)\+(sentinel|cluster)://")
_HELP = (
    "it is redis://HOST:PORT/DB, rediss://... (TLS), unix:///PATH, "
    "redis+sentinel://HOST:PORT,HOST:PORT/MASTER, or redis+cluster://HOST:PORT,HOST:PORT"
)


class _Connection:
    """Laid over a connection of redis-py: it can be cancelled, and finds its way after a failover.

    redis-py sends within `asyncio.wait_for`, which on Python 3.11 loses a cancellation that comes as
    the sending is done (python/cpython#86296); a loop around commands would then never stop.
    """

    primary: Primary | None = None  # where to connect to; None for where the URL says

    async def _connect(self) -> None:
        if self.primary is not None:
            self.host, self.port = await self.primary.find()
        await super()._connect()  # type: ignore[misc]

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        await super().send_packed_command(*args, **kwargs)  # type: ignore[misc]
        if task and task.cancelling() > before:
            # The answer will be read by nobody.
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise asyncio.CancelledError

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)  # type: ignore[misc]
        except ResponseError as error:
            if not _elsewhere(error):
                raise
            if self.primary is not None:
                self.primary.moved(error.slot_id if isinstance(error, MovedError) else None)
            # What was asked was not done, so the client's own retry may do it on the new primary.
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise RedisConnectionError(f"the primary is another server: {error}") from error


def _elsewhere(error: ResponseError) -> bool:
    """Whether a server says by this that another one should be asked."""
    # A demoted primary lets those who block go with UNBLOCKED; older servers wrap what ends a script.
    moved = isinstance(error, (MovedError, ReadOnlyError))
    return moved or str(error).startswith("UNBLOCKED") or "-READONLY " in str(error)


def connect(url: str) -> Redis:
    """A client for the Redis or Valkey at `url`; see this module for what that may be.

    It connects when first used and again whenever the connection broke; a call on a dead server
    fails within seconds with one of `REDIS_AWAY`. Replies are text (`str`), not bytes.

    Raises:
        ConfigError: `url` is not one.
    """
    try:
        several = _SCHEME.match(url)
        if several is None:
            return _client(url)
        return _led(several[1], several[2], url)
    except ValueError as error:
        raise ConfigError(f"{_public(url)!r} is not the URL of a Redis: {error}; {_HELP}") from error


def check_url(url: str, name: str) -> None:
    """Says of a setting `name` whether `connect` can use it, without connecting.

    Raises:
        ConfigError: it can't.
    """
    try:
        connect(url)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def _client(url: str, primary: Primary | None = None, *, timeout_s: float = 0.0) -> Redis:
    """Connects to `url`, or where `primary` says; once and within `timeout_s` if that is given."""
    parts = urlsplit(url)
    if parts.scheme in ("redis", "rediss"):
        if parts.port == 0:
            raise ValueError("a port is from 1 to 65535")
        if not parts.path.removeprefix("/").isdecimal() and parts.path not in ("", "/"):
            raise ValueError(f"should end with the number of a database, not {parts.path[1:]!r}")
    # A Unix socket has no keepalive, and redis-py's refuses the setting.
    keepalive = {} if parts.scheme == "unix" else {"socket_keepalive": True}
    client: Redis = Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=timeout_s or CONNECT_TIMEOUT_S,
        socket_timeout=timeout_s or REPLY_TIMEOUT_S,
        health_check_interval=10,
        retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), 0 if timeout_s else RETRIES),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
        **keepalive,
    )
    pool = client.connection_pool
    fields = {"primary": primary}
    pool.connection_class = type("Connection", (_Connection, pool.connection_class), fields)
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:  # it names the option, last and quoted
        raise ValueError(f"there is no option {str(error).rpartition(' ')[2]}") from error
    return client


def _led(scheme: str, kind: str, url: str) -> Redis:
    """A client of Sentinels or of a cluster."""
    parts = urlsplit(url)
    login, at, places = parts.netloc.rpartition("@")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    user, password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    query = f"?{urlencode(options)}" if options else ""
    path = parts.path.strip("/")
    if kind == "cluster":
        if path not in ("", "0") or options.get("db", "0") != "0":
            raise ValueError(f"a cluster has no database but 0, not {path or options['db']}")
        nodes = _addresses(places, REDIS_PORT)
        primary: Primary = ByCluster(
            lambda node: _client(f"{scheme}://{login}{at}{_netloc(node)}{query}", timeout_s=ASK_TIMEOUT_S),
            nodes,
        )
        return _client(f"{scheme}://{login}{at}{_netloc(nodes[0])}{query}", primary)
    name, _, database = path.partition("/")
    if not name:
        raise ValueError("should name the master behind the Sentinels, as in /mymaster")
    own = f"{user}:{password}@" if password else ""
    own_query = f"?{urlencode({key: value for key, value in options.items() if key != 'db'})}"
    sentinels = _addresses(places, SENTINEL_PORT)
    primary = BySentinels(
        lambda one: _client(f"{scheme}://{own}{_netloc(one)}{own_query}", timeout_s=ASK_TIMEOUT_S),
        sentinels,
        unquote(name),
    )
    return _client(f"{scheme}://{login}{at}{_netloc(sentinels[0])}/{database}{query}", primary)


def _addresses(places: str, port: int) -> list[Address]:
    found = []
    for place in places.split(","):
        each = urlsplit(f"//{place}")
        if not each.hostname or each.port == 0:
            raise ValueError(f"should name HOST:PORT by commas, not {place!r}")
        found.append((each.hostname, each.port or port))
    return found


def _netloc(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _public(url: str) -> str:
    """`url` without its password."""
    return re.sub(r"://[^@/]*@", "://...@", re.sub(r"(password=)[^&]*", r"\1...", url))
