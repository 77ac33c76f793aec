"""Breaking a part of the running mesh on purpose, under load: chaos."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import asdict

import rich_click as click
from rich.markup import escape
from rich.table import Table

from meshwork.chaos.faults import Fault, table
from meshwork.chaos.mesh import Mesh
from meshwork.chaos.report import Phase, Report
from meshwork.chaos.run import Pace, run
from meshwork.cli.console import err, json_option, out, print_json, reports_errors, running_mesh
from meshwork.errors import MeshworkError

ALL = "all"
AROUND_S = 4.0  # seconds of load before and after a fault, at most


@click.command()
@click.argument("fault", metavar="FAULT", type=click.Choice([*table(), ALL]))
@click.argument("target", default="", metavar="[SERVICE|REPLICA]")
@click.option(
    "--duration",
    "duration_s",
    metavar="S",
    type=click.FloatRange(1, 600),
    default=12.0,
    help="Seconds; a call has 10, so what waits for a hung replica all the while is lost.",
)
@click.option("--rate", type=click.FloatRange(1, 5000), default=100.0, help="Calls a second.")
@click.option("--callers", type=click.IntRange(1, 1000), default=20, help="Callers that share the rate.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Break what has no peer, too; its callers will notice.")
@json_option
@reports_errors
def chaos(
    fault: str,
    target: str,
    duration_s: float,
    rate: float,
    callers: int,
    yes: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Break a part of the running mesh under load, count what callers notice, and put it back.

    Light calls of every service go through every gateway and proxyless, from a process of its own,
    before, during and after the fault. Exit status 1 if a call was lost.

    \b
    Faults:
      kill, terminate     SIGKILL, SIGTERM to a replica
      hang, slow          SIGSTOP to a replica; SIGSTOP nine tenths of the time
      partition           an extra replica behind relays, cut off from callers and Redis
      drain               what `meshwork drain` does
      rolling-restart     what `meshwork restart` does
      redis-down          the mesh's Valkey is killed
      redis-emptied       the mesh's keys are deleted
      router-down         a router is killed
      gateway-down        one of several gateways is killed
      all                 each of these, one after another

    \b
    Examples:
      meshwork chaos kill nlp
      meshwork chaos hang --duration 10 --yes
      meshwork chaos all vision --yes --json
    """
    running_mesh()
    names = [name for name in table() if fault in (name, ALL)]
    around_s = min(duration_s, AROUND_S)
    pace = Pace(rate=rate, callers=callers, before_s=around_s, after_s=around_s)
    try:
        reports = asyncio.run(
            _all(names, target, pace, duration_s, ask=not yes, force=force, quiet=as_json, one=fault != ALL)
        )
    except asyncio.CancelledError:
        err.print("Told to stop: what was broken is put back.")
        raise SystemExit(128 + signal.SIGTERM) from None
    if as_json:
        print_json([asdict(report) for report in reports])
    if any(report.lost or report.streams_lost for report in reports):
        raise SystemExit(1)


async def _all(
    names: list[str],
    target: str,
    pace: Pace,
    duration_s: float,
    *,
    ask: bool,
    force: bool,
    quiet: bool,
    one: bool,
) -> list[Report]:
    # As Ctrl-C does, SIGTERM must put things back.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    reports = []
    home, _ = running_mesh()
    async with Mesh(home) as mesh:
        for name in names:
            fault: Fault = table()[name](mesh, duration_s=duration_s)
            try:
                await fault.choose(target, force=force)
                if ask and not click.confirm(f"This {fault.says()}. Go on?", err=quiet):
                    continue
                report = await run(fault, pace, say=lambda text: None if quiet else _say(text))
            except MeshworkError as error:
                if one:
                    raise
                err.print(f"[yellow]{name} is left out:[/] {escape(str(error))}")
                continue
            reports.append(report)
            if not quiet:
                show(report)
    return reports


def _say(text: str) -> None:
    out.print(escape(text), style="dim")


def show(report: Report) -> None:
    """The report for people."""
    lost = report.lost + report.streams_lost
    verdict = "[green]no call lost[/]" if not lost else f"[bold red]{lost} calls lost[/]"
    out.print(f"\n[bold]{report.fault}[/] of {escape(report.subject)}, {report.seconds:g} s: {verdict}")
    columns = Table("", "CALLS", "LOST", "P50", "P99", "WORST", box=None, pad_edge=False)
    for name in ("before", "during", "after"):
        phase: Phase = getattr(report, name)
        times = (f"{value:.1f} ms" for value in (phase.p50_ms, phase.p99_ms, phase.worst_ms))
        columns.add_row(name, str(phase.calls), str(phase.lost), *times)
    if report.streams:
        columns.add_row("streams", str(report.streams), str(report.streams_lost))
    out.print(columns)
    for error, count in report.errors.items():
        out.print(f"  {count} x {escape(error)}", style="red")
    if report.out_of_rotation_s is not None:
        reason = f" ({escape(report.ejection)})" if report.ejection else ""
        out.print(f"out of rotation after {report.out_of_rotation_s:.2f} s{reason}")
    if report.recovered_s > 0:
        out.print(f"the last call that noticed ended {report.recovered_s:.2f} s after the fault began")
    out.print()
