from __future__ import annotations

import pytest

from meshwork.devices import parse_devices, physical, torch_device


def test_a_list_of_devices_is_read_in_its_order() -> None:
    assert parse_devices("cuda:1, cpu") == ("cuda:1", "cpu")


@pytest.mark.parametrize("text", ["", "gpu", "cpu,,cpu:1", "cpu:0,cpu:0", "cuda", "cpu:x"])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="device"):
        parse_devices(text)


def test_slots_of_the_processor_share_its_memory() -> None:
    assert [physical(name) for name in ("cpu", "cpu:0", "cpu:1", "cuda:0")] == ["cpu", "cpu", "cpu", "cuda:0"]
    assert str(torch_device("cpu:1")) == "cpu"
