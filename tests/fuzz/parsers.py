"""The parsers that are fuzzed: each makes its samples in a folder, and reads one input from a file there."""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from fastapi import HTTPException

from tests.fuzz.mutate import mutated_bytes, mutated_json
from tests.fuzz.runner import Fuzzer, of_file
from tests.fuzz.text_parsers import TEXT_FUZZERS
from vlj_edge.bundle import MANIFEST, nano_bundle, read_manifest, seal
from vlj_edge.bundle.embedding_space import embedding_space
from vlj_edge.bundle.engine_cache import Receipt, RuntimeId, _read_receipt
from vlj_edge.bundle.graph_files import external_locations
from vlj_edge.runtime.embedding.labels import LabelBank, load_bank, read_labels, save_bank
from vlj_edge.runtime.embedding.record_file import Layout, RecordFile, read_records
from vlj_edge.runtime.service.config import read_config, read_profile
from vlj_edge.runtime.service.http.uploads import Form
from vlj_edge.runtime.video.network.hls import _best_variant
from vlj_edge.runtime.video.network.mjpeg import JpegSplitter
from vlj_edge.runtime.video.recordings.image import encode_jpeg, read_image
from vlj_edge.runtime.video.recordings.mp4_samples import check_samples


def manifest(folder: Path) -> Fuzzer:
    sample = (nano_bundle() / MANIFEST).read_bytes()
    return of_file(folder / MANIFEST, [sample], lambda path: read_manifest(path.parent), mutated_json)


def receipt(folder: Path) -> Fuzzer:
    runtime, sealed = RuntimeId("tensorrt", "10.3", "sm87", "orin"), seal(nano_bundle() / MANIFEST)
    made = Receipt("decoder", "decoder.engine", sealed, {"decoder.onnx": "0" * 64}, {"a": None}, runtime, {"layers": 9})
    sample = json.dumps(json.loads(made.signed_content()) | {"signature": ""}).encode()
    return of_file(folder / "decoder.json", [sample], _read_receipt, mutated_json)


def bank(folder: Path) -> Fuzzer:
    found = read_manifest(nano_bundle())
    model: Any = SimpleNamespace(manifest=found, directory=nano_bundle())
    rows = np.eye(2, found.embedding, dtype=np.float32)
    save_bank(LabelBank(("a door opens", "nothing"), rows, embedding_space(found)), folder / "made.npz")
    return of_file(folder / "bank.npz", [(folder / "made.npz").read_bytes()], lambda path: load_bank(path, model))


def labels(folder: Path) -> Fuzzer:
    sample = "\ufeffa door opens\n# no label\n\nnothing moves\n".encode()
    return of_file(folder / "labels.txt", [sample], lambda path: read_labels(str(path)))


def records(folder: Path) -> Fuzzer:
    for slots in (0, 3):
        with RecordFile(folder / f"{slots}.vlj", Layout("int8", 32, "0" * 16, slots)) as file:
            for second in range(4):
                file.write(second, 0.0, np.ones(32, np.float32) / 32**0.5)

    def with_checksum(raw: bytes, others: list[bytes], chance: Any) -> bytes:
        raw = mutated_bytes(raw, others, chance)
        if len(raw) > 64 and chance.randrange(2):  # half of them pass the header's checksum
            raw = raw[:44] + zlib.crc32(raw[:44]).to_bytes(4, "little") + raw[48:]
        return raw

    samples = [(folder / f"{slots}.vlj").read_bytes() for slots in (0, 3)]
    return of_file(folder / "records.vlj", samples, lambda path: list(read_records(path)), with_checksum)


def config(folder: Path) -> Fuzzer:
    sample = (
        b'port = 8080\nlog_bytes = 1000000\nkeep_days = 7.0\nallowed_host = ["camera.local"]\n'
        b'[[source]]\nname = "door"\nuri = "rtsp://door/1"\nlabels = ["a", "b"]\nend = 9.5\nrotate = 90\n'
        b"[source.gates.meaning]\nspeak_below = 0.9\nsmoothing = 2\n[source.gates.scene]\nenabled = false\n"
    )
    values = [
        b"-1",
        b"1e400",
        b"nan",
        b"inf",
        b"100000000000000000000",
        b"99999",
        b"0",
        b'""',
        b"[]",
        b"{}",
        b"1979-05-27",
    ]

    def other_values(raw: bytes, others: list[bytes], chance: Any) -> bytes:
        lines = raw.split(b"\n")
        at = chance.randrange(len(lines))
        key, equals, _ = lines[at].partition(b" = ")
        if not equals or not chance.randrange(3):
            return mutated_bytes(raw, others, chance)
        lines[at] = key + equals + chance.choice(values)
        return b"\n".join(lines)

    def parse(path: Path) -> Any:
        return read_config(path).sources(read_manifest(nano_bundle()).gates)

    return of_file(folder / "serve.toml", [sample], parse, other_values)


def profile(folder: Path) -> Fuzzer:
    gates = {"meaning": {"smoothing": 2, "speak_below": 0.5}, "scene": {"enabled": False}}
    sample = json.dumps({"door": {"query": "what", "labels": ["a", "b"], "gates": gates}}).encode()
    return of_file(folder / "profile.json", [sample], read_profile, mutated_json)


def onnx(folder: Path) -> Fuzzer:
    samples = [(nano_bundle() / "decoder.onnx").read_bytes(), b"\x08\x0a\x3a\x04\x0a\x02\x1a\x00"]
    return of_file(folder / "graph.onnx", samples, external_locations, errors=(ValueError,))


def playlist(folder: Path) -> Fuzzer:
    sample = (
        b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=800000,RESOLUTION=640x360\na.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb\n"
    )
    return Fuzzer([sample], _best_variant, mutated_bytes)


def mjpeg(folder: Path) -> Fuzzer:
    picture = encode_jpeg(np.full((16, 16, 3), 99, np.uint8), 16)

    def parse(raw: bytes) -> Any:
        splitter = JpegSplitter()
        for at in range(0, len(raw), 100):
            list(splitter.split(raw[at : at + 100]))

    return Fuzzer([picture * 3, b"--b\r\n\r\n" + picture], parse, mutated_bytes, (OSError,))


def image(folder: Path) -> Fuzzer:
    sample = encode_jpeg(np.full((16, 16, 3), 99, np.uint8), 16)
    return of_file(folder / "picture.jpg", [sample], read_image)


def form(folder: Path) -> Fuzzer:
    head = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
    sample = head % b"labels" + b"red,blue\r\n" + head % b"clip" + b"0123456789\r\n--b--\r\n"

    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

    def parse(raw: bytes) -> Any:
        found = Form(b"b", 1000)
        for at in range(0, len(raw), 7):
            found.feed(raw[at : at + 7])

    return Fuzzer([sample], parse, mutated_bytes, (HTTPException,))


def tokenizer(folder: Path) -> Fuzzer:
    from vlj_edge.export.weights.files import read_tokenizer

    sample = json.dumps(
        {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "Whitespace"},
         "post_processor": None, "decoder": None,
         "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}
    ).encode()  # fmt: skip
    return of_file(folder / "tokenizer.json", [sample], read_tokenizer, mutated_json)


def safetensors(folder: Path) -> Fuzzer:
    from vlj_edge.export.weights.files import read_safetensors

    return of_file(folder / "model.safetensors", [_safetensors(folder).read_bytes()], read_safetensors)


def pt(folder: Path) -> Fuzzer:
    import torch

    from vlj_edge.export.weights.files import read_pt

    torch.save({"encoder": {"w": torch.ones(3, 2)}, "epoch": 3, "args": [1.5, "x"]}, folder / "made.pt")
    return of_file(folder / "weights.pt", [(folder / "made.pt").read_bytes()], read_pt)


def transformers(folder: Path) -> Fuzzer:
    from vlj_edge.export.weights.files import read_transformers
    from vlj_edge.export.weights.llama_transformers import _parse_config

    config = {
        "model_type": "llama", "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 64, "rms_norm_eps": 1e-6, "rope_theta": 5e4,
        "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 16},
    }  # fmt: skip
    shutil.copy(_safetensors(folder), folder / "model.safetensors")

    def parse(path: Path) -> Any:
        return _parse_config(read_transformers(path.parent)[0], path)

    return of_file(folder / "config.json", [json.dumps(config).encode()], parse, mutated_json)


def shards(folder: Path) -> Fuzzer:
    from vlj_edge.export.weights.files import read_transformers

    _safetensors(folder)
    (folder / "config.json").write_text("{}")
    sample = json.dumps({"metadata": {"total_size": 1}, "weight_map": {"a": "made.safetensors"}}).encode()
    index = folder / "model.safetensors.index.json"
    return of_file(index, [sample], lambda path: read_transformers(path.parent), mutated_json)


def _safetensors(folder: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.float16)}, folder / "made.safetensors")
    return folder / "made.safetensors"


def gguf(folder: Path) -> Fuzzer:
    from tests.export.weights.test_gguf_decoders import write_gguf
    from vlj_edge.export.weights.llama_gguf import read_llama_gguf

    return of_file(
        folder / "llama.gguf", [write_gguf(folder / "made.gguf").read_bytes()], read_llama_gguf, _near_the_start
    )


def samples_of_mp4(folder: Path) -> Fuzzer:
    def table(kind: bytes, content: bytes) -> bytes:
        return (8 + len(content)).to_bytes(4, "big") + kind + content

    sizes = table(b"stsz", (0).to_bytes(4, "big") + (4).to_bytes(4, "big") + (2).to_bytes(4, "big"))
    holders = (b"stbl", b"minf", b"mdia", b"trak", b"moov")
    for holder in holders:
        sizes = table(holder, sizes)
    return of_file(folder / "film.mp4", [table(b"ftyp", b"isom") + sizes], lambda path: check_samples(path, "film.mp4"))


def _near_the_start(raw: bytes, others: list[bytes], chance: Any) -> bytes:
    """Change the metadata, and not the tensors after it, which are most of the file."""
    return mutated_bytes(raw[:8192], [raw[:8192]], chance) + raw[8192:]


FUZZERS: dict[str, Callable[[Path], Fuzzer]] = {
    each.__name__: each
    for each in (
        manifest, receipt, bank, labels, records, config, profile, onnx, playlist, mjpeg, image, form, tokenizer,
        safetensors, pt, transformers, shards, gguf, samples_of_mp4,
    )
} | TEXT_FUZZERS  # fmt: skip
