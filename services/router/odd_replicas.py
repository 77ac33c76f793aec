"""Which findings speak for keeping a replica from traffic; a pure function.

::

    failing  =  share of its calls that fail >= eject_failing, and >= 3 times its peers'
    slow     =  mean latency >= eject_slow x its peers', and >= LEAST_MS above it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.router.anomalies import Finding

LEAST_MS = 2.0
_TIMES = 3.0


def odd_replicas(
    findings: Iterable[Finding], bounds: Callable[[str, str], tuple[float, float]]
) -> tuple[dict[str, str], dict[str, str]]:
    """The evidence against replicas that fail, and against those that are slow, by name.

    Args:
        findings: those that the last windows speak for.
        bounds: by service and model, `eject_failing` as a share and `eject_slow`; 0 for never.
    """
    failing: dict[str, str] = {}
    slow: dict[str, str] = {}
    for each in findings:
        share, ratio = bounds(each.service, each.model) if each.replica else (0.0, 0.0)
        if each.figure == "errors" and share and each.seen >= max(share, _TIMES * each.expected):
            failing[each.replica] = (
                f"{each.seen:.0%} of its calls of {each.model} fail where its peers' {each.expected:.0%} do"
            )
        far = ratio and each.seen >= max(ratio * each.expected, each.expected + LEAST_MS)
        if each.figure == "latency" and far:
            slow[each.replica] = (
                f"{each.seen:.3g} ms an answer of {each.model} where its peers need {each.expected:.3g}"
            )
    return failing, slow
