from __future__ import annotations

import pytest

from meshwork.errors import InvalidArgument
from meshwork.serving.threads import contained


class Panic(BaseException):
    """As pyo3's PanicException: a native library's defect, and no Exception."""


def raises(error: BaseException) -> None:
    raise error


def test_a_result_and_an_exception_pass_as_they_are() -> None:
    assert contained(int, "7") == 7
    with pytest.raises(InvalidArgument):
        contained(raises, InvalidArgument("no"))


@pytest.mark.parametrize("error", [Panic("native"), SystemExit(1), KeyboardInterrupt(), StopIteration("end")])
def test_what_would_end_the_waiting_loop_becomes_a_runtime_error(error: BaseException) -> None:
    with pytest.raises(RuntimeError, match=type(error).__name__) as caught:
        contained(raises, error)
    assert caught.value.__cause__ is error
