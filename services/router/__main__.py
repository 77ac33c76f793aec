"""`python -m services.router`: runs a router, and its gateway where it has one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys

from meshwork import logs
from meshwork.errors import ConfigError
from meshwork.process import stop_on_signals, watch_parent
from meshwork.state.connect import connect
from services.router import envoy
from services.router.config import RouterConfig
from services.router.gateway import gateway_node, listener_name
from services.router.planner import GATEWAY
from services.router.router import Router

log = logging.getLogger(__name__)

EXIT_FAILED, EXIT_CONFIG = 1, 2


async def serve(config: RouterConfig) -> int:
    """Runs a router until it is told to stop; gives the process's exit status."""
    stop = stop_on_signals()
    redis = connect(config.redis_url)
    router = Router(config, redis)
    try:
        server = await router.serve()
    except RuntimeError as error:
        log.error("can't listen on %s: %s", config.router_listen, error)
        return EXIT_FAILED
    try:
        http = await router.serve_http()
    except OSError as error:
        log.error("can't listen on %s: %s", config.http_listen, error)
        return EXIT_FAILED
    tasks = [asyncio.create_task(router.run(), name="router")]
    if config.gateway_listen:
        supervisor = envoy.Supervisor(
            binary=envoy.binary(),
            folder=config.folder,
            node=gateway_node(config.mesh, config.gateway_listen),
            cluster=GATEWAY,
            discovery=config.discovery,
            concurrency=config.gateway_threads,
            otlp=config.otlp,
            zone=config.zone,
            on_hung=router.gateway_hung,
        )
        tasks.append(asyncio.create_task(supervisor.run(), name="envoy"))
        tasks.append(asyncio.create_task(_say_when_ready(supervisor, config), name="ready"))
    else:
        _say_ready(f"router ready on {config.router_listen}")
    background = asyncio.create_task(watch_parent(stop), name="parent")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    done, _ = await asyncio.wait([stopping, *tasks[:2]], return_when=asyncio.FIRST_COMPLETED)
    status = 0
    for task in done - {stopping}:
        log.error("the task %s ended, stopping", task.get_name(), exc_info=task.exception())
        status = EXIT_FAILED
    for task in (*tasks, background, stopping):
        task.cancel()
    await asyncio.gather(*tasks, background, stopping, return_exceptions=True)
    if http is not None:
        await http.stop()
    await server.stop(0.5)
    await redis.aclose()
    return status


async def _say_when_ready(supervisor: envoy.Supervisor, config: RouterConfig) -> None:
    """Says it once Envoy has taken the gateway's listener, from whichever router, and serves."""
    told = ""
    name = listener_name(config.gateway_listen)
    while True:
        serves, refused = await envoy.listener(supervisor.admin_socket, name)
        if refused and refused != told:
            told = refused
            log.error("the gateway can't listen on %s: %s", config.gateway_listen, refused)
        if serves and await envoy.ready(supervisor.admin_socket):
            _say_ready(f"router ready on {config.router_listen}, gateway on {config.gateway_listen}")
            return
        await asyncio.sleep(0.05)


def _say_ready(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)  # noqa: T201 - the one line that whoever started us waits for


def main() -> None:
    """Runs a router as the environment says."""
    try:
        config = RouterConfig.from_environment(os.environ)
    except ConfigError as error:
        print(f"router: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_CONFIG)
    logs.start("router")
    sys.exit(asyncio.run(serve(config)))


if __name__ == "__main__":
    main()
