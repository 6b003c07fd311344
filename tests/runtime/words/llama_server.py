"""llama.cpp's own server, with a tiny model of random weights that takes pictures, in a process of its own.

python -m tests.runtime.words.llama_server FOLDER KEY [text]     (prints its address; ends when its standard input does)

Its tokens are bytes, and an answer is printable ASCII that never ends before its limit, so that what the server counts
tells how often it was asked.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_WIDTH, _INNER, _LAYERS, _HEADS = 64, 128, 2, 4
_SIDE, _PATCH = 32, 8  # pixels: 16 tokens a picture
_CONTEXT = 4096
_SPECIAL = ("<unk>", "<s>", "</s>")
_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %} ASSISTANT:"  # no prompt ends in a picture
)
_FILES = ("model.gguf", "pictures.gguf")


@contextmanager
def llama_server(folder: Path, key: str, takes_pictures: bool = True) -> Iterator[str]:
    """Serve from a folder until the end of the block; gives the address of its API."""
    command = [sys.executable, "-m", "tests.runtime.words.llama_server", str(folder), key]
    command += [] if takes_pictures else ["text"]
    with (folder / "server.log").open("wb") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=Path(__file__).parents[3]
        )
        assert child.stdin is not None and child.stdout is not None
        try:
            address = child.stdout.readline().decode().strip()
            assert address, (folder / "server.log").read_text(errors="replace")[-2000:]
            yield f"{address}/v1"
        finally:
            child.kill()
            child.communicate()


def _write_models(folder: Path) -> None:
    random = np.random.default_rng(7)
    _write_language_model(folder / _FILES[0], random)
    _write_vision_model(folder / _FILES[1], random)


def _write_language_model(path: Path, random: np.random.Generator) -> None:
    """A small llama."""
    import gguf

    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *[gguf.TokenType.BYTE] * 256]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_INNER)
    writer.add_block_count(_LAYERS)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(_TEMPLATE)
    weight = _weights(writer, random)
    weight("token_embd", len(tokens), _WIDTH)
    for layer in range(_LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weight(f"blk.{layer}.{name}", _WIDTH, _WIDTH)
        for name in ("ffn_gate", "ffn_up"):
            weight(f"blk.{layer}.{name}", _INNER, _WIDTH)
        weight(f"blk.{layer}.ffn_down", _WIDTH, _INNER)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(_WIDTH, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    output = random.normal(0, 1, (len(tokens), _WIDTH)).astype(np.float32)
    first = len(_SPECIAL) + ord("!")
    output[:first] = output[first + 94 :] = 0  # below the largest of the others
    writer.add_tensor("output.weight", output)
    _finish(writer)


def _write_vision_model(path: Path, random: np.random.Generator) -> None:
    """A vision transformer as LLaVA has it, with a projector of two layers."""
    import gguf

    writer = gguf.GGUFWriter(path, "clip")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("mlp")
    writer.add_bool("clip.use_gelu", False)
    writer.add_vision_image_size(_SIDE)
    writer.add_vision_patch_size(_PATCH)
    writer.add_vision_embedding_length(_WIDTH)
    writer.add_vision_feed_forward_length(_INNER)
    writer.add_vision_projection_dim(_WIDTH)
    writer.add_vision_block_count(_LAYERS)
    writer.add_vision_head_count(_HEADS)
    writer.add_vision_attention_layernorm_eps(1e-5)
    writer.add_vision_image_mean([0.5] * 3)
    writer.add_vision_image_std([0.25] * 3)
    weight = _weights(writer, random)
    weight("v.class_embd", _WIDTH, bare=True)
    weight("v.patch_embd", _WIDTH, 3, _PATCH, _PATCH)
    weight("v.position_embd", (_SIDE // _PATCH) ** 2 + 1, _WIDTH)
    norms = ["v.pre_ln"]
    for layer in range(_LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            weight(f"v.blk.{layer}.{name}", _WIDTH, _WIDTH, bias=True)
        weight(f"v.blk.{layer}.ffn_up", _INNER, _WIDTH, bias=True)
        weight(f"v.blk.{layer}.ffn_down", _WIDTH, _INNER, bias=True)
        norms += [f"v.blk.{layer}.ln1", f"v.blk.{layer}.ln2"]
    for name in norms:
        writer.add_tensor(f"{name}.weight", np.ones(_WIDTH, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(_WIDTH, np.float32))
    for layer in (0, 2):
        weight(f"mm.{layer}", _WIDTH, _WIDTH, bias=True)
    _finish(writer)


def _weights(writer: Any, random: np.random.Generator) -> Any:
    """Return a function that adds a tensor of a name and shape, and on request a bias."""

    def add(name: str, *shape: int, bias: bool = False, bare: bool = False) -> None:
        scale = 1 if len(shape) == 1 else np.prod(shape[1:]) ** -0.5
        values = random.normal(0, scale, shape).astype(np.float32)
        writer.add_tensor(name if bare else f"{name}.weight", values)
        if bias:
            writer.add_tensor(f"{name}.bias", np.zeros(shape[0], np.float32))

    return add


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _serve(folder: Path, key: str, takes_pictures: bool) -> None:
    from xllamacpp import CommonParams, Server

    _write_models(folder)
    settings = CommonParams()
    settings.model.path = str(folder / _FILES[0])
    if takes_pictures:
        settings.mmproj.path = str(folder / _FILES[1])
    settings.api_keys, settings.endpoint_metrics = [key], True
    settings.hostnames, settings.port = ["127.0.0.1"], 0
    settings.n_ctx, settings.n_parallel = _CONTEXT, 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.ui, settings.offline, settings.warmup = False, True, False
    server = Server(settings)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2], "text" not in sys.argv[3:])
