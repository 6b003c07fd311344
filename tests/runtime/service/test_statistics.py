"""What the statistics of a channel keep of the last minute."""

from __future__ import annotations

from vlj_edge import Decision, TextReport, Window, WindowReport
from vlj_edge.runtime.service.statistics import ChannelStatistics


def add(statistics: ChannelStatistics, seconds: float, text: str | None = None) -> None:
    window = Window(round(2 * seconds), seconds - 1, seconds + 1)
    statistics.add_report(seconds, WindowReport(window, None, False, text is not None), None)
    if text is not None:
        report = TextReport(seconds - 1, seconds + 1, text, "decoder", True, Decision("memory", "decoded"))
        statistics.add_text(seconds, report)


def shown(statistics: ChannelStatistics) -> tuple[list[float], list[str]]:
    _, windows, texts = statistics.latest(60)
    return [at for at, _ in windows], [text.text for _, text in texts]


def test_nothing_is_shown_before_the_first_window() -> None:
    assert shown(ChannelStatistics()) == ([], [])


def test_only_the_last_minute_is_shown() -> None:
    statistics = ChannelStatistics()
    for number in range(400):
        add(statistics, number / 2, str(number) if number % 50 == 0 else None)
    times, texts = shown(statistics)
    assert (times[0], times[-1], len(times)) == (140.0, 199.5, 120)
    assert texts == ["300", "350"]


def test_a_recording_that_begins_again_shows_only_what_is_played_now() -> None:
    statistics = ChannelStatistics()
    for number in range(100):
        add(statistics, number / 2, "at the end" if number == 99 else None)
    add(statistics, 0.0)
    add(statistics, 0.5, "at the beginning")
    assert shown(statistics) == ([0.0, 0.5], ["at the beginning"])


def test_only_what_is_new_is_returned_after_a_number() -> None:
    statistics = ChannelStatistics()
    for number in range(100):
        add(statistics, number / 2, str(number) if number in (10, 97) else None)
    number, windows, texts = statistics.latest(60, after=95)
    assert (number, [at for at, _ in windows], [text.text for _, text in texts]) == (
        100,
        [47.5, 48.0, 48.5, 49.0, 49.5],
        ["97"],
    )
    assert statistics.latest(60, after=100) == (100, [], []) == statistics.latest(60, after=1000)
