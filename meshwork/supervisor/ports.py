"""Free ports, and who holds a taken one."""

from __future__ import annotations

import socket

import psutil

from meshwork.errors import FailedPrecondition


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def free_ports(count: int) -> list[int]:
    """As many, all different."""
    found: dict[int, None] = {}
    while len(found) < count:
        found[free_port()] = None
    return list(found)


def check_free(host: str, port: int) -> None:
    """Checks that this process may listen on the port.

    Raises:
        FailedPrecondition: it is taken; says by whom and what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            holder = _holder(port)
            raise FailedPrecondition(
                f"cannot listen on {host}:{port}: {error.strerror}{holder}. Stop what holds it, or "
                f"choose another port: meshwork up --port {port + 1}"
            ) from error


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == "LISTEN":
                if connection.pid is None:
                    break
                process = psutil.Process(connection.pid)
                return f", held by {process.name()} (pid {process.pid}: {' '.join(process.cmdline())[:120]})"
    except psutil.Error:
        pass  # another user's process, or a system that does not tell
    return ""
