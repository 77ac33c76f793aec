"""`meshwork top`: a live view of the mesh, full-screen."""

from __future__ import annotations

import sys

import rich_click as click

from meshwork.channel import addresses
from meshwork.cli.console import reports_errors, router_address, router_option


@click.command()
@router_option
@reports_errors
def top(router: str) -> None:
    """Watch the mesh: replicas, models and services, how fast they answer, and what is odd.

    Figures are of the last 10 seconds and come every 2, from what the replicas count. A replica that is
    much slower than its peers stands in red. Below the table are anomalies, ejections and warnings.

    \b
    Keys:
      1, 2, 3      replicas, models, services
      s, r         sort by the next column; turn the order around
      /, escape    filter by words; show all
      enter        open a replica; of a model or service, its replicas
      t            the slowest trace of the last 10 minutes of what the cursor is on
      e            the last events
      q            quit

    \b
    Examples:
      meshwork top
      meshwork top --router 10.0.0.6:9000
    """
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise click.UsageError("needs a terminal; for programs there is `meshwork status --json`")
    address = router_address(router)
    addresses(address)
    # Textual takes a moment to import, so only once there is something to show.
    from meshwork.top.app import Top
    from meshwork.top.feed import Feed

    Top(Feed(address)).run()
