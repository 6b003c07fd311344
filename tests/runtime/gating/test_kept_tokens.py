"""Which tokens of a clip carry news."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.gating.windows import picture
from vlj_edge import VljEdgeError, bundle
from vlj_edge.bundle import nano_bundle, read_manifest
from vlj_edge.runtime.gating.kept_tokens import Choice, TokenSelector, check_choice
from vlj_edge.runtime.gating.picture_noise import PictureNoise
from vlj_edge.runtime.video.preprocess import THUMBNAIL, CroppedFrame

TOKENS = bundle.Tokens(tubelet=2, side=4, counts=(16, 24, 32, 48, 64))  # 4 slots of 4 x 4 places, of 8 x 8 cells


def selector(choice: Choice = "auto", tokens: bundle.Tokens = TOKENS) -> TokenSelector:
    return TokenSelector(bundle.SceneGateSettings(), tokens, PictureNoise(THUMBNAIL), choice)


def frames(places: list[set[int]], side: int = 4) -> list[CroppedFrame]:
    """Eight frames in which the given places are bright, one set a frame."""
    cells, found = THUMBNAIL // side, []
    for bright in places:
        luminance = np.full((THUMBNAIL, THUMBNAIL), 0.3, np.float32)
        for place in bright:
            row, column = divmod(place, side)
            middle = np.s_[row * cells + 2 : (row + 1) * cells - 2, column * cells + 2 : (column + 1) * cells - 2]
            luminance[middle] = 0.9
        found.append(CroppedFrame(np.zeros((3, 1, 1), np.uint8), luminance))
    return found


def test_a_still_clip_is_its_first_slot() -> None:
    kept = selector().choose([picture(0.3)] * 8)
    assert kept is not None and kept.tolist() == list(range(16))
    assert kept.dtype == np.int64


def test_a_tubelet_is_kept_when_its_place_changes_and_when_it_has_changed_back() -> None:
    kept = selector().choose(frames([set(), set(), set(), set(), {5}, {5}, set(), set()]))
    assert kept is not None and len(kept) == 24
    assert {*range(16), 2 * 16 + 5, 3 * 16 + 5} <= set(kept.tolist())


def test_what_has_changed_once_and_stays_so_is_kept_once() -> None:
    news = selector().news(frames([set()] * 2 + [{5}] * 6))
    assert news[1].ravel()[5] >= 1 and (news[2:] < 1).all(), "it is compared with what was last kept there"


def test_slow_drift_is_kept_before_it_is_far() -> None:
    half = bundle.SceneGateSettings().changed * 0.6
    clip = []
    for slot in range(4):
        luminance = picture(0.3).luminance.copy()
        luminance[:4, :4] += slot * half  # every slot differs too little from the one before
        clip += [CroppedFrame(np.zeros((3, 1, 1), np.uint8), luminance)] * 2
    news = selector().news(clip)[:, 0, 0]
    assert news[1] < 1 <= news[2] and news[3] < 1


def test_noise_of_the_stream_is_no_news() -> None:
    rng = np.random.default_rng(0)
    noise = PictureNoise(THUMBNAIL)
    noise.restore(np.full((THUMBNAIL, THUMBNAIL), 0.03, np.float32), 1000)
    grain = [picture(0.3).luminance + rng.normal(0, 0.03, (THUMBNAIL, THUMBNAIL)).astype(np.float32) for _ in range(8)]
    clip = [CroppedFrame(np.zeros((3, 1, 1), np.uint8), each) for each in grain]
    quiet, loud = bundle.SceneGateSettings(), noise
    assert (TokenSelector(quiet, TOKENS, loud, "auto").news(clip)[1:] < 1).all()


def test_a_clip_that_changes_everywhere_keeps_all() -> None:
    assert selector().choose([picture(level) for level in (0.1, 0.1, 0.9, 0.2, 0.8, 0.1, 0.7, 0.3)]) is None
    assert selector("all").choose([picture(0.3)] * 8) is None


@given(
    st.lists(st.sets(st.integers(0, 15)), min_size=8, max_size=8),
    st.sampled_from(["auto", 0.1, 0.3, 0.5, 0.9, 1.0]),
)
def test_the_number_is_one_of_the_counts_and_all_news_is_kept(places: list[set[int]], choice: Choice) -> None:
    chosen = selector(choice)
    news = chosen.news(frames(places)).ravel()
    kept = chosen.choose(frames(places))
    if kept is None:
        kept = np.arange(64)
    assert len(kept) in TOKENS.counts and (np.diff(kept) > 0).all()
    if choice == "auto":
        assert set(np.flatnonzero(news >= 1)) <= set(kept.tolist())
        smaller = [count for count in TOKENS.counts if count < len(kept)]
        assert all(count < (news >= 1).sum() for count in smaller), "no larger count than needed"
    else:
        assert len(kept) >= 64 * float(choice) and set(np.argsort(-news, kind="stable")[:16]) <= set(kept.tolist())


@pytest.mark.parametrize(("side", "tubelet"), [(6, 2), (16, 2), (24, 2), (4, 1), (1, 8), (40, 2)])
def test_any_grid(side: int, tubelet: int) -> None:
    total = 8 // tubelet * side * side
    tokens = bundle.Tokens(tubelet, side, (side * side, total) if tubelet < 8 else (total,))
    news = selector(tokens=tokens).news([picture(0.3)] * 4 + [picture(0.9)] * 4)
    assert news.shape == (8 // tubelet, side, side) and np.isinf(news[0]).all()


def test_a_choice_that_cannot_be_is_refused() -> None:
    manifest = read_manifest(nano_bundle())
    assert check_choice("all", manifest) == "all"
    with pytest.raises(VljEdgeError, match="--token-shares"):
        check_choice("auto", manifest)
    for wrong in (0.0, -1.0, 1.5, float("nan"), "most"):
        with pytest.raises(VljEdgeError, match="a share above 0"):
            check_choice(wrong, manifest)  # type: ignore[arg-type]
