"""A mesh in the background: what `meshwork up -d` starts. Reads the MeshConfig as JSON from stdin."""

from __future__ import annotations

import asyncio
import sys

from meshwork import config, logs
from meshwork.errors import ConfigError, MeshworkError
from meshwork.process import stop_on_signals
from meshwork.supervisor.home import Home
from meshwork.supervisor.supervisor import Supervisor, kill_now


async def _run() -> str:
    home = Home.from_environment()
    supervisor = Supervisor(home, config.from_json(sys.stdin.read()))
    return await supervisor.run(stop_on_signals(lambda: kill_now(home)))


def main() -> None:
    """Runs the mesh until a signal; exit status 1 if it failed to start."""
    logs.start("mesh")
    try:
        failed = asyncio.run(_run())
    except (MeshworkError, ConfigError) as error:
        sys.exit(str(error))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
