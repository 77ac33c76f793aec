"""Calling a task's code in a thread so that whatever it raises stays one call's failure.

Native libraries panic with BaseExceptions (pyo3's PanicException), some code calls `sys.exit`, and an
asyncio future refuses StopIteration: each of these would end the loop that waits for the answer, and
with it every other caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def contained(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns, or an Exception that may cross into asyncio.

    Raises:
        RuntimeError: in place of StopIteration and of what is no Exception; the cause is attached.
        Exception: any other that `function` raises, as it is.
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:
        if not isinstance(error, StopIteration):
            raise
        cause: BaseException = error
    except BaseException as error:
        cause = error
    raise RuntimeError(f"{type(cause).__name__}: {cause}") from cause
