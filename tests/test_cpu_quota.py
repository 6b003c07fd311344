"""Control groups' limits of processor time, in trees as Docker, systemd and Kubernetes make them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlj_edge.cpu_quota import cpu_quota
from vlj_edge.runtime.engines import base


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "200000 100000",
          "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, 2.0),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "200000 100000",
          "sys/fs/cgroup/a/b/cpu.max": "150000 100000"}, 1.5),
        ({"proc/self/cgroup": "0::/../../outside", "sys/fs/cgroup/cpu.max": "100000 100000"}, 1.0),
        ({"proc/self/cgroup": "4:cpu,cpuacct:/docker/x", f"{V1}/docker/x/cpu.cfs_quota_us": "50000",
          f"{V1}/docker/x/cpu.cfs_period_us": "100000"}, 0.5),
        ({"proc/self/cgroup": "4:cpu,cpuacct:/docker/x", f"{V1}/cpu.cfs_quota_us": "100000",
          f"{V1}/cpu.cfs_period_us": "50000"}, 2.0),
        ({"proc/self/cgroup": "4:cpu:/", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
          "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        ({"proc/self/cgroup": "0::/\n2:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000"}, 1.0),
        ({"proc/self/cgroup": "nonsense\n0::/", "sys/fs/cgroup/cpu.max": "x y"}, None),
    ],
)  # fmt: skip
def test_a_quota_is_found(tmp_path: Path, files: dict[str, str], cores: float | None) -> None:
    assert cpu_quota(tree(tmp_path, files)) == cores


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (1.0, 1), (1.5, 2), (None, 8), (99.0, 8)])
def test_threads_follow_the_quota(quota: float | None, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(base, "cpu_quota", lambda: quota)
    assert base.usable_cores() == threads
