"""Which process is said to have died."""

import torch.distributed as dist

from ikem_fast.runtime import pulse


def test_the_first_to_look_says_who_died_for_all(monkeypatch):
    """Those that looked end, and are silent, too."""
    monkeypatch.setattr(pulse, "BEAT", 0.02)
    monkeypatch.setattr(pulse, "LOOK", 0.5)
    store = dist.HashStore()
    pulses = [pulse.Pulse(store, rank, 4, patience=9) for rank in range(4)]
    for each in pulses:
        each.__enter__()
    pulses[2].stop()
    told = [pulses[rank].diagnosis() for rank in (1, 3, 0)]
    assert "expected a word from process 2 of 4 in step 1, found no sign of life" in told[0]
    assert told == [told[0]] * 3
