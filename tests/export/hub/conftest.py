from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from tests.export.hub.local_hub import Hub, Repository, serving
from vlj_edge.export.hub import download

WEIGHTS = bytes(range(256)) * 4000
FILES = {
    "config.json": b'{"model_type": "siglip"}',
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}",
    "preprocessor_config.json": b'{"size": 224}',
    "spiece.model": b"pieces",
    "README.md": b"# Read me",
    "modeling_custom.py": b"raise SystemExit('this is code')",
    "pytorch_model.bin": b"a pickle",
    "onnx/model.onnx": b"a graph",
    "1_Pooling/config.json": b"{}",
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, as HF_HUB_CACHE would name it; nobody has signed in."""
    for name in (
        "HF_HOME",
        "HF_HUB_CACHE",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(download, "_PAUSE", 0.01)
    return tmp_path / "cache"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub as HF_ENDPOINT would name it, with the repository google/siglip."""
    with serving(Hub()) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        hub.repositories["google/siglip"] = Repository(FILES, older={**FILES, "config.json": b'{"older": true}'})
        yield hub
        close_session()
