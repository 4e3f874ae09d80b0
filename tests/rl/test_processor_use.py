from jaxlab.rl import processor_use


def test_the_share_between_two_looks(tmp_path, monkeypatch):
    stat = tmp_path / "stat"
    monkeypatch.setattr(processor_use, "_STAT", stat)
    assert processor_use.ProcessorUse().look() is None
    stat.write_text("cpu 100 0 50 800 50 0 0 0 30 0\ncpu0 1 2 3\n")
    use = processor_use.ProcessorUse()
    assert use.look() is None  # no tick has passed
    # 30 busy ticks of 100; what guests used is in them already.
    stat.write_text("cpu 120 0 55 860 60 2 2 1 50 0\ncpu0 1 2 3\n")
    assert abs(use.look() - 0.3) < 1e-12
