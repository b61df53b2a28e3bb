"""Progress of a long job: lines in a log where the output is no terminal."""

import logging

import pytest

from latentline.core import progress


@pytest.fixture(autouse=True)
def every_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Log at each item, with a clock that ticks once a second."""
    caplog.set_level(logging.INFO)
    ticks = iter(range(100))
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(ticks))


def test_items_come_as_they_are_and_the_log_says_how_far_they_are(caplog) -> None:
    assert list(progress.with_progress(iter("abcd"), 4, "letters")) == list("abcd")
    assert caplog.messages == [
        "letters: 1 of 4, 00:03 left",
        "letters: 2 of 4, 00:02 left",
        "letters: 3 of 4, 00:01 left",
    ]


def test_the_time_left_is_by_the_items_that_this_run_computes(caplog) -> None:
    """The clock ticks at each item; two of them are ready."""
    list(progress.with_progress("abcde", 5, "letters", ready=2))
    assert caplog.messages == ["letters: 3 of 5, 00:02 left", "letters: 4 of 5, 00:01 left"]


def test_another_process_says_nothing(caplog) -> None:
    assert list(progress.with_progress("abcd", 4, "letters", shown=False)) == list("abcd")
    assert caplog.messages == []


def test_a_terminal_shows_a_bar_instead(monkeypatch, caplog, capsys) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert list(progress.with_progress("abcd", 4, "letters")) == list("abcd")
    assert caplog.messages == []
    assert "letters: 100%" in capsys.readouterr().err
