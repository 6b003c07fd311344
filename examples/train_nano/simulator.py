"""One Meta-World episode: reset, camera, scripted expert, frames and labels that come from the simulator's state."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from math import ceil

os.environ.setdefault("MUJOCO_GL", "osmesa")  # software rendering: no display and no GPU needed
os.environ.setdefault("LP_NUM_THREADS", "1")  # one llvmpipe thread a worker: workers are the parallelism

import cv2
import mujoco
import numpy as np
from cameras import Camera, random_camera
from meshes import coarsen
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP

APPROACH, ACT, STILL, ATTEMPT = 0, 1, 2, 3
PHASES = ("approach", "act", "still", "attempt")

WARM_UP = 12  # control steps with the hand held: object positions right after a reset are stale, mugs still fall
AFTER_SUCCESS = 16  # control steps an episode may go on while things still move after success
MAX_FRAMES = 60
ROBOT_QPOS = 9  # 7 arm joints and 2 finger joints come first in every Sawyer model; the rest are objects
MOVING = 0.0008  # m a control step below which a hand, finger or object counts as standing still
DISPLACED = 0.008  # m an object has to leave its place before the act counts as begun
LEVER = 0.1  # m: turns a joint angle into a length, so that doors and dials use the same thresholds

# Tasks whose act lasts under about 24 control steps get the denser sampling, so that the act fills a 2 s clip.
SHORT_ACT = frozenset(
    f"{name}-v3"
    for name in (  # noqa: SIM905
        "button-press-topdown button-press-topdown-wall button-press button-press-wall coffee-button coffee-push "
        "door-close door-lock door-unlock drawer-close drawer-open faucet-close faucet-open handle-press "
        "handle-press-side lever-pull pick-place plate-slide plate-slide-back plate-slide-back-side plate-slide-side "
        "push push-back soccer window-close window-open hand-insert dial-turn"
    ).split()
)


@dataclass
class Episode:
    """One rollout: frames (uint8 HxWx3 RGB) and the simulator's labels of each frame.

    hand: float32 (frames, 3), metres: the point between the fingers.
    """

    task: str
    seed: int
    stride: float
    camera: Camera
    frames: list[np.ndarray] = field(default_factory=list)
    phase: np.ndarray | None = None
    moving: np.ndarray | None = None
    contact: np.ndarray | None = None
    success: np.ndarray | None = None
    hand: np.ndarray | None = None

    def meta(self) -> dict:
        return {"task": self.task, "seed": self.seed, "stride": self.stride, "camera": asdict(self.camera)}


class Simulator:
    """One task's environment with one renderer, reused over episodes: building the pair costs more than an episode.

    Close it before opening the next: two live renderers in one process give empty frames without an error.
    """

    def __init__(self, task: str, render_size: int, frame_size: int, max_frames: int = MAX_FRAMES) -> None:
        self.task, self.frame_size, self.max_frames = task, frame_size, max_frames
        self.env = ALL_V3_ENVIRONMENTS[task]()
        self.env._partially_observable = False
        self.env._freeze_rand_vec = False
        self.env._set_task_called = True
        # The cached space clips the goal to zero, with which six experts always fail, without an error.
        self.env.__dict__.pop("sawyer_observation_space", None)
        self.model, self.data = self.env.model, self.env.data
        self.hand_init = np.array(self.env.hand_init_pos, dtype=np.float64)
        self.robot, self.objects = body_masks(self.model)
        coarsen(self.model, np.flatnonzero(self.robot[self.model.geom_bodyid]))
        self.model.vis.quality.offsamples = 0  # no MSAA; the frame is rendered larger and area-averaged instead
        self.model.vis.global_.offwidth = self.model.vis.global_.offheight = max(render_size, 64)
        self.model.site_rgba[:, 3] = 0.0  # goal markers off, or the model reads the goal from them
        self.looks = {name: getattr(self.model, name).copy() for name in ("mat_rgba", "light_diffuse", "light_pos")}
        self.headlight = self.model.vis.headlight.diffuse.copy(), self.model.vis.headlight.ambient.copy()
        self.renderer = mujoco.Renderer(self.model, render_size, render_size)
        self.renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self.renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self.view = mujoco.MjvCamera()
        self.view.type = mujoco.mjtCamera.mjCAMERA_FREE

    def close(self) -> None:
        self.renderer.close()

    def render(self) -> np.ndarray:
        """The scene now, uint8 (frame_size, frame_size, 3) RGB."""
        self.renderer.update_scene(self.data, self.view)
        image = self.renderer.render()
        return cv2.resize(image, (self.frame_size, self.frame_size), interpolation=cv2.INTER_AREA)

    def set_camera(self, camera: Camera) -> None:
        self.view.lookat[:] = camera.lookat
        self.view.distance, self.view.azimuth, self.view.elevation = camera.distance, camera.azimuth, camera.elevation

    def vary_looks(self, rng: np.random.Generator) -> None:
        """Vary paint and light slightly for this episode, starting from the model's own values."""
        paint = self.looks["mat_rgba"].copy()
        tint = rng.uniform(0.8, 1.2, (len(paint), 1)) * rng.uniform(0.88, 1.12, (len(paint), 3))
        paint[:, :3] = np.clip(paint[:, :3] * tint, 0, 1)
        self.model.mat_rgba[:] = paint
        shape = self.looks["light_diffuse"].shape
        self.model.light_diffuse[:] = self.looks["light_diffuse"] * rng.uniform(0.6, 1.4, (shape[0], 1))
        self.model.light_pos[:] = self.looks["light_pos"] + rng.uniform(-0.4, 0.4, shape)
        self.model.vis.headlight.diffuse[:] = self.headlight[0] * rng.uniform(0.75, 1.25)
        self.model.vis.headlight.ambient[:] = self.headlight[1] * rng.uniform(0.75, 1.25)

    def run(
        self,
        seed: int,
        stride: float | None = None,
        camera: Camera | None = None,
        zone: str = "training",
        vary: bool = True,
    ) -> Episode:
        """Run one episode with the scripted expert. Missing arguments are random; equal arguments give equal frames.

        Args:
            stride: control steps from frame to frame; what lies between two steps is interpolated.
        """
        rng = np.random.default_rng(seed)
        stride = stride or int(rng.choice((2, 3) if self.task in SHORT_ACT else (3, 4)))
        episode = Episode(self.task, seed, stride, camera or random_camera(rng, zone))
        self.set_camera(episode.camera)
        if vary:
            self.vary_looks(rng)
        np.random.seed(seed % 2**32)  # Meta-World draws the object and goal positions from numpy's global state
        # Vary where the hand starts, so that the model cannot tell the task from its position in the first frame.
        self.env.hand_init_pos = self.hand_init + rng.uniform((-0.05, -0.04, -0.01), (0.05, 0.04, 0.06))
        trace = self.rollout(episode, rng)
        label(episode, trace)
        return episode

    def rollout(self, episode: Episode, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Step until some time after success, rendering every `stride` steps; return the state of every step."""
        observation, _ = self.env.reset()
        policy = ENV_POLICY_MAP[self.task]()
        noise = rng.uniform(0.0, 0.12)  # of the full action, so that no two episodes follow quite the same path
        states, success_at, quiet = [], None, 0
        whole = float(episode.stride).is_integer()
        for step in range(WARM_UP + ceil(self.max_frames * episode.stride)):
            action = np.array([0.0, 0.0, 0.0, -1.0])
            if step >= WARM_UP:
                action = np.asarray(policy.get_action(observation), dtype=np.float64)
                action[:3] += noise * rng.standard_normal(3)
            observation, _, _, _, info = self.env.step(np.clip(action, -1, 1))
            states.append(self.state(bool(info["success"])))
            if whole and step >= WARM_UP and (step - WARM_UP) % episode.stride == 0:
                episode.frames.append(self.render())
            if len(states) > WARM_UP + 1 and states[-1]["success"] and success_at is None:
                success_at = step
            if success_at is not None:
                quiet = quiet + 1 if motion(states[-2], states[-1]) < MOVING else 0
                since = step - success_at
                if since >= AFTER_SUCCESS or (since >= 2 * episode.stride and quiet >= 3 * episode.stride):
                    break
        trace = {key: np.array([state[key] for state in states]) for key in states[0]}
        if not whole:
            steps = np.arange(WARM_UP, len(states) - 1, episode.stride)[: self.max_frames]
            episode.frames += [self.render_between(trace["positions"], float(step)) for step in steps]
        return trace

    def render_between(self, positions: np.ndarray, step: float) -> np.ndarray:
        """The scene between two control steps; positions (steps, joint values) of the whole episode."""
        before, share = int(step), step - int(step)
        self.data.qpos[:] = (1 - share) * positions[before] + share * positions[before + 1]
        mujoco.mj_kinematics(self.model, self.data)  # normalises quaternions
        mujoco.mj_camlight(self.model, self.data)
        return self.render()

    def state(self, success: bool) -> dict[str, np.ndarray | bool]:
        bodies = self.model.geom_bodyid[self.data.contact.geom].reshape(-1, 2)
        first, second = bodies[:, 0], bodies[:, 1]
        touch = (self.robot[first] & self.objects[second]) | (self.robot[second] & self.objects[first])
        return {
            "hand": np.concatenate([self.env.tcp_center, self.data.qpos[ROBOT_QPOS - 2 : ROBOT_QPOS]]),
            "objects": object_lengths(self.model, self.data),
            "contact": bool(touch.any()),
            "positions": self.data.qpos.copy(),
            "success": success,
        }


def body_masks(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Return bool (bodies,) masks: parts of the robot; movable bodies other than the robot."""
    roots = {model.body("base").id, model.body("mocap").id}
    robot = np.zeros(model.nbody, bool)
    for body in range(1, model.nbody):  # parents come before children
        robot[body] = body in roots or robot[model.body_parentid[body]]
    return robot, (model.body_weldid != 0) & ~robot


def object_lengths(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Return all object joints as lengths in metres: positions unchanged, angles and quaternions times LEVER."""
    scale = np.full(model.nq, LEVER)
    for kind, start in zip(model.jnt_type, model.jnt_qposadr, strict=True):
        if kind == mujoco.mjtJoint.mjJNT_SLIDE:
            scale[start] = 1.0
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            scale[start : start + 3] = 1.0
    return (data.qpos * scale)[ROBOT_QPOS:].copy()


def motion(before: dict, after: dict) -> float:
    """Return the largest movement of the hand, the fingers or an object between two states, metres."""
    return max(
        np.abs(after["hand"] - before["hand"]).max(), np.abs(after["objects"] - before["objects"]).max(initial=0)
    )


def label(episode: Episode, trace: dict[str, np.ndarray]) -> None:
    """Set the labels of each frame: still where nothing moves, approach before the act begins, act from there on.

    If the task never succeeds, the act is an attempt. Reaching touches nothing: it always counts as an act, whether or
    not the hand finds the hidden goal.
    """
    hand, objects = trace["hand"], trace["objects"]
    steps = WARM_UP + (np.arange(len(episode.frames)) * episode.stride).astype(int)
    reach = max(1, round(episode.stride))
    reaching = episode.task.startswith("reach")
    begin = WARM_UP if reaching else act_begin(trace)
    act = ACT if reaching or trace["success"].any() else ATTEMPT
    moving = []
    for step in steps:
        low, high = max(step - reach, 0), min(step + reach, len(hand) - 1)
        moved = max(np.abs(hand[high] - hand[low]).max(), np.abs(objects[high] - objects[low]).max(initial=0))
        moving.append(moved > MOVING * (high - low))
    episode.moving = np.array(moving)
    episode.phase = np.where(~episode.moving, STILL, np.where(steps >= begin, act, APPROACH)).astype(np.uint8)
    episode.contact = trace["contact"][steps]
    episode.success = trace["success"][steps]
    episode.hand = hand[steps, :3].astype(np.float32)


def act_begin(trace: dict[str, np.ndarray]) -> int:
    """Return the control step at which the gripper touches what it then moves; the trace's length if it never does."""
    touched = recent(trace["contact"], 6)
    steps = np.abs(np.diff(trace["objects"], axis=0, prepend=trace["objects"][:1])).max(axis=1, initial=0)
    pushed = np.where(touched, steps, 0.0)  # a mug that falls by itself is not an act
    pushed[: WARM_UP + 1] = 0.0
    moved = np.cumsum(pushed) > DISPLACED
    if not moved.any():
        return len(moved)
    step = start = int(moved.argmax())
    while step > max(WARM_UP, start - 20) and touched[step - 1]:  # back to the contact that led to it
        step -= 1
    return step


def recent(flags: np.ndarray, steps: int) -> np.ndarray:
    """Return whether a flag was set in the last `steps` entries, including the current one."""
    return np.array([flags[max(i - steps + 1, 0) : i + 1].any() for i in range(len(flags))])
