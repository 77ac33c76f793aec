"""Runs every benchmark, keeps each JSON line in `benchmarks/results/`, and prints a table: `make bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
NOT_BENCHMARKS = {"__init__", "__main__", "report"}


def main() -> None:
    """Runs them one after another; exits with 1 if one broke."""
    console = Console()
    table = Table("BENCHMARK", "TARGET", "VALUE", "WANTED", "MET", box=None, pad_edge=False)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    broken = False
    for name in sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_BENCHMARKS):
        with console.status(f"running {name}"):
            done = subprocess.run(
                [sys.executable, "-m", f"benchmarks.{name}", "--json"], stdout=subprocess.PIPE, text=True
            )
        if done.returncode != 0:
            broken = True
            table.add_row(name, "[red]ended with an error[/]")
            continue
        line = done.stdout.splitlines()[-1]
        (results / f"{name}.json").write_text(line + "\n")
        for target, (value, wanted, met) in json.loads(line)["targets"].items():
            table.add_row(name, target, f"{value:g}", wanted, "[green]yes[/]" if met else "[red]no[/]")
    console.print(table)
    sys.exit(broken)


if __name__ == "__main__":
    main()
