import io
import itertools

from jaxlab.runs import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, seconds_each):
    """What a terminal shows of five items, by a clock that goes on by so much when it is read."""
    terminal, clock = Terminal(), itertools.count(0, seconds_each)
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    assert list(progress(range(5), "fits")) == [0, 1, 2, 3, 4]
    return terminal.getvalue()


def test_items_pass_in_silence_where_there_is_no_terminal(capsys):
    drawn = []
    items = progress((drawn.append(i) or i for i in range(3)), "fits", total=3)
    assert drawn == []
    assert next(items) == 0
    assert drawn == [0]
    assert list(items) == [1, 2]
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_after_two_seconds(monkeypatch):
    text = shown(monkeypatch, 1.0)
    assert "fits" in text
    assert "/5" in text


def test_what_is_quick_shows_none(monkeypatch):
    assert "fits" not in shown(monkeypatch, 0.01)
