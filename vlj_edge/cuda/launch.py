"""The description of one kernel launch, and the types that kernels compute in."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import VljEdgeError

DTYPE_SUFFIXES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}  # in the kernels' names


@dataclass(frozen=True)
class Launch:
    """One kernel with its launch parameters. Its arguments are the inputs, then the integers, then the outputs.

    Attributes:
        name: of the kernel, such as "attention_axes_fp16_64".
        grid: number of blocks in x, y and z.
        threads: per block.
        integers: int32 arguments.
        input_bytes, output_bytes: size that each input and output buffer must have at least.
    """

    name: str
    grid: tuple[int, int, int]
    threads: int
    integers: tuple[int, ...]
    input_bytes: tuple[int, ...]
    output_bytes: tuple[int, ...]

    @property
    def source(self) -> str:
        """The source file that has the kernel, without its suffix: "attention" or "pixels"."""
        return "attention" if self.name.startswith("attention") else "pixels"


def check_dtype(dtype: str, sm: str) -> None:
    """Check that a GPU can compute in a type.

    Args:
        dtype: "float16" or "bfloat16".
        sm: compute capability, such as "sm86".

    Raises:
        VljEdgeError: the type is bfloat16 and the GPU older than sm80.
    """
    if dtype == "bfloat16" and int(sm.removeprefix("sm")) < 80:
        raise VljEdgeError(f"{sm} has no bfloat16: export the bundle in fp16")
