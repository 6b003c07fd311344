"""Speed and error of this project's CUDA kernels compared with torch's attention, on an NVIDIA GPU.

python benchmarks/cuda_kernels.py [--rounds 30]      (torch for CUDA; pycuda or cuda-python)

In one run, attention is compared with: flash attention after RoPE as transformers writes it, the same compiled by
torch, and flash attention without RoPE. Each round uses another copy of the input, together larger than the GPU's
cache. Times are medians of CUDA events; every other round runs in reverse order. Each row also has two lower bounds
(its bytes at the measured copy bandwidth, its multiply-adds at the rate of a large torch.matmul) and the relative error
to attention in fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click
import numpy as np
import torch
from common import write
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.vjepa2.modeling_vjepa2 import rotate_queries_or_keys

from vlj_edge import preset
from vlj_edge.cuda.attention import attention_launch, axes_table, halves_table
from vlj_edge.cuda.pixels import pixels_launch, resize_weights
from vlj_edge.export.models import rope
from vlj_edge.runtime.engines.tensorrt.device import Buffer, open_device
from vlj_edge.runtime.engines.tensorrt.kernels import Kernels
from vlj_edge.runtime.video.preprocess import crop_box, normalisation

SIDE, HEAD_DIM, CACHE = 16, 64, 256 << 20
VISION = [(tokens, 16, 16) for tokens in (1024, 2048, 8192)]  # ViT-L
PREDICTOR = [(tokens, 32, 8) for tokens in (1536, 2560)]  # Llama-3.2-1B: 1,024 or 2,048 visual tokens and 512 of text


def buffer(tensor: torch.Tensor) -> Buffer:
    return Buffer(tensor.data_ptr(), tensor.nbytes)


def medians(rounds: int, actions: dict[str, Callable[[int], Any]]) -> dict[str, float]:
    """Return the median microseconds of each action, which is called with the index of the input copy to use."""
    for action in actions.values():
        for copy in range(3):
            action(copy)
    torch.cuda.synchronize()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds):
        for name in list(actions)[:: 1 if number % 2 == 0 else -1]:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            actions[name](number)
            last.record()
            last.synchronize()
            times[name].append(first.elapsed_time(last) * 1e3)
    return {name: round(float(np.median(values)), 2) for name, values in times.items()}


def rates(rounds: int) -> tuple[float, float]:
    """Return bytes per second of a copy (read and written) and fp16 operations per second of a matrix product."""
    a, b = (torch.empty(512 << 20, dtype=torch.uint8, device="cuda") for _ in range(2))
    m = torch.randn(8192, 8192, dtype=torch.float16, device="cuda")
    took = medians(rounds, {"copy": lambda _: b.copy_(a), "product": lambda _: m @ m})
    return 2 * a.nbytes / took["copy"] * 1e6, 2 * 8192**3 / took["product"] * 1e6


def vision_rope(tokens: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return V-JEPA 2's rotary embedding as transformers computes it, for a clip of so many tokens."""
    token = torch.arange(tokens, device="cuda")
    coordinates = (token // SIDE**2, token % SIDE**2 // SIDE, token % SIDE)
    axis = 2 * ((HEAD_DIM // 3) // 2)

    def rotate(x: torch.Tensor) -> torch.Tensor:
        positions = [coordinate.expand(*x.shape[:2], -1) for coordinate in coordinates]
        parts = [rotate_queries_or_keys(x[..., i * axis : (i + 1) * axis], positions[i]) for i in range(3)]
        return torch.cat((*parts, x[..., 3 * axis :]), dim=-1).to(x.dtype)

    return rotate


def rotations(tokens: int, by_axes: bool) -> tuple[np.ndarray, Callable[..., tuple[torch.Tensor, torch.Tensor]]]:
    """Return our kernel's table of rotations, and a function that rotates queries and keys as transformers does."""
    if by_axes:
        cos, sin = rope.vjepa_tables(tokens // SIDE**2, SIDE, SIDE, HEAD_DIM)
        rotate = vision_rope(tokens)
        return axes_table(cos.numpy(), sin.numpy(), SIDE, SIDE), lambda q, k: (rotate(q), rotate(k))
    cos, sin = (t[0] for t in rope.llama_tables(preset("vl-jepa-1.6b").predictor, tokens))
    tables = [torch.cat((t, t), -1)[None].half().cuda() for t in (cos, sin)]
    return halves_table(cos.numpy(), sin.numpy()), lambda q, k: apply_rotary_pos_emb(q, k, *tables)


def attention(tokens: int, heads: int, kv_heads: int, rounds: int, kernels: Kernels) -> dict[str, Any]:
    """Time and compare attention: V-JEPA 2's if every head has its own keys, else Llama's. Nothing is masked."""
    width, by_axes = (heads + 2 * kv_heads) * HEAD_DIM, heads == kv_heads
    copies = max(CACHE // (2 * tokens * width), 2)
    qkv = torch.randn(copies, 1, tokens, width, dtype=torch.float16, device="cuda")
    out = torch.empty(1, tokens, heads * HEAD_DIM, dtype=torch.float16, device="cuda")
    table, rotate_both = rotations(tokens, by_axes)

    def flash(x: torch.Tensor, rotate: bool) -> torch.Tensor:
        parts = x.view(1, tokens, -1, HEAD_DIM).transpose(1, 2)
        q, k, v = parts.split((heads, kv_heads, kv_heads), dim=1)
        if rotate:
            q, k = rotate_both(q, k)
        return scaled_dot_product_attention(q, k, v, enable_gqa=not by_axes).transpose(1, 2).flatten(2)

    ours = our_attention(qkv, out, torch.from_numpy(table).cuda(), heads, kv_heads, kernels)
    compiled = torch.compile(partial(flash, rotate=True))
    actions = {
        "ours": ours,
        "rope and flash": lambda i: flash(qkv[i % copies], rotate=True),
        "the same compiled": lambda i: compiled(qkv[i % copies]),
        "flash without rope": lambda i: flash(qkv[i % copies], rotate=False),
    }
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        microseconds = medians(rounds, actions)
    ours(0)
    with sdpa_kernel(SDPBackend.MATH):
        expected = flash(qkv[0].float(), rotate=True)
    return {
        "microseconds": microseconds,
        "error": round(float((out - expected).norm() / expected.norm()), 6),
        "bytes": qkv[0].nbytes + out.nbytes,
        "operations": 4 * tokens**2 * heads * HEAD_DIM,
    }


def our_attention(
    qkv: torch.Tensor, out: torch.Tensor, table: torch.Tensor, heads: int, kv_heads: int, kernels: Kernels
) -> Callable[[int], None]:
    """Return a function that starts our kernel on one of the copies in qkv [copies, 1, tokens, width]."""
    by_axes, (copies, _, tokens, _) = heads == kv_heads, qkv.shape
    inputs = [table]
    if not by_axes:
        inputs.append(torch.ones(1, tokens, dtype=torch.uint8, device="cuda"))  # the key mask
    rotation: Any = "axes" if by_axes else "halves"
    grid = (SIDE, SIDE) if by_axes else None
    sizes = {"batch": 1, "tokens": tokens, "heads": heads, "kv_heads": kv_heads, "head_dim": HEAD_DIM}
    launch = attention_launch(rotation, "float16", grid=grid, **sizes)
    stream = torch.cuda.current_stream().cuda_stream

    def start(copy: int) -> None:
        kernels.start(launch, (buffer(qkv[copy % copies]), *map(buffer, inputs)), (buffer(out),), stream)

    return start


def pixels(width: int, height: int, rounds: int, kernels: Kernels) -> dict[str, Any]:
    """Time the conversion of a BGR frame in GPU memory to the fp16 input of vl-jepa-1.6b."""
    preprocess = preset("vl-jepa-1.6b").preprocess
    left, top, right, bottom = crop_box(width, height, preprocess)
    across = resize_weights(width, left, right, preprocess.crop)
    down = resize_weights(height, top, bottom, preprocess.crop)
    launch = pixels_launch("bgr", "float16", stride=3 * width, height=height, across=across, down=down)
    copies = max(CACHE // launch.input_bytes[0], 2)
    frames = torch.randint(0, 256, (copies, launch.input_bytes[0]), dtype=torch.uint8, device="cuda")
    tables = [torch.from_numpy(array).cuda() for array in (across, down, normalisation(preprocess))]
    out = torch.empty(launch.output_bytes[0], dtype=torch.uint8, device="cuda")
    stream = torch.cuda.current_stream().cuda_stream

    def run(copy: int) -> None:
        inputs = (buffer(frames[copy % copies]), *map(buffer, tables))
        kernels.start(launch, inputs, (buffer(out), None), stream)

    took = medians(rounds, {"ours": run})
    cropped = 3 * round(right - left) * round(bottom - top)  # bytes of the frame inside the crop
    return {"microseconds": took, "bytes": cropped + out.nbytes, "operations": 0}


@click.command()
@click.option("--rounds", default=30, show_default=True)
def main(rounds: int) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("error: torch finds no NVIDIA GPU: run this on a machine that has one, with torch for CUDA")
    torch.cuda.init()
    kernels = Kernels(open_device())
    bandwidth, products = rates(rounds)
    found: dict[str, Any] = {
        "card": torch.cuda.get_device_name(),
        "sm": open_device().sm,
        "torch": torch.__version__,
        "copy_gigabytes_a_second": round(bandwidth / 1e9, 1),
        "matmul_teraflops": round(products / 1e12, 1),
        "rounds": rounds,
    }
    for tokens, heads, kv_heads in VISION + PREDICTOR:
        name = f"attention, {tokens} tokens, {heads} heads, {kv_heads} of keys"
        found[name] = attention(tokens, heads, kv_heads, rounds, kernels)
    for width, height in ((1280, 720), (1920, 1080), (3840, 2160)):
        found[f"pixels, {width} x {height}"] = pixels(width, height, rounds, kernels)
    for row in (row for row in found.values() if isinstance(row, dict)):
        row["floor_of_bytes_microseconds"] = round(row.pop("bytes") / bandwidth * 1e6, 2)
        row["floor_of_products_microseconds"] = round(row.pop("operations") / products * 1e6, 2)
        ours = row["microseconds"]["ours"]
        row["others_over_ours"] = {k: round(v / ours, 3) for k, v in row["microseconds"].items() if k != "ours"}
        print(row)
    write("kernels-gpu.json", {found["card"]: found}, "python benchmarks/cuda_kernels.py")


if __name__ == "__main__":
    main()
