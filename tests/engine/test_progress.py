"""What a watcher reads."""

import io

import pytest

from pipeline.progress import Progress, console_progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_line_tells_what_is_done_how_fast_and_how_long_it_takes() -> None:
    assert str(Progress(28, 2, 130, 10.0)) == "30/130 frames, 3.00/s, 0:33 left, 2 quarantined"
    assert str(Progress(0, 0, 130, 10.0)) == "0/130 frames, 0.00/s"
    assert str(Progress(130, 0, 130, 10.0)) == "130/130 frames, 13.00/s"
    assert str(Progress(1, 0, 4001, 1.0)) == "1/4001 frames, 1.00/s, 1:06:40 left"


def test_an_estimate_of_the_work_left_wins_over_frames_a_second() -> None:
    assert str(Progress(65, 0, 130, 10.0, 95.0)) == "65/130 frames, 6.50/s, 1:35 left"
    assert Progress(65, 0, 130, 10.0, 95.0).eta_s == 95.0
    assert "left" not in str(Progress(130, 0, 130, 10.0, 95.0))


def test_a_log_is_not_flooded_and_gets_the_last_line() -> None:
    log = io.StringIO()
    with console_progress(log) as show:
        for done in range(101):
            show(Progress(done, 0, 100, 1.0))
    assert log.getvalue() == "100/100 frames, 100.00/s\n"


@pytest.mark.parametrize("quarantined", [0, 3])
def test_a_terminal_gets_a_bar(quarantined: int) -> None:
    terminal = Terminal()
    with console_progress(terminal) as show:
        show(Progress(0, 0, 8, 0.0))
        show(Progress(5, quarantined, 8, 2.0, 61.0))
    assert f"{5 + quarantined}/8" in terminal.getvalue()
    assert ("1:01 left" in terminal.getvalue()) is (quarantined == 0)
