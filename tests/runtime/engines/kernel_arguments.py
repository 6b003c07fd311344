"""Arguments of a kernel launch, and how the driver reads them."""

from __future__ import annotations

import ctypes
from typing import Any

from vlj_edge.runtime.engines.tensorrt.device import Buffer


def arguments_at(address: int, kinds: list[Any]) -> list[Any]:
    """What cuLaunchKernel would read there."""
    listed = (ctypes.c_void_p * len(kinds)).from_address(address)
    return [kind.from_address(at or 0).value for kind, at in zip(kinds, listed, strict=True)]


KINDS = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p]


GIVEN = (Buffer(4096, 12).part(8, 4), 7, -1, None)
