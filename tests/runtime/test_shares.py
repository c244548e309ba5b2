"""Shares of a batch: every clip counts once, whatever the number of processes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ikem_fast.runtime.shares import divide


@settings(max_examples=200, deadline=None)
@given(clips=st.integers(1, 300), processes=st.integers(1, 70))
def test_shares_make_up_the_batch(clips, processes):
    shares = divide(clips, processes)
    assert len(shares) == processes
    assert sum(share.weight for share in shares) == pytest.approx(1)
    places = list(range(clips))
    entered = [place for share in shares for place in places[share.clips][: share.own]]
    assert entered == places, "every clip is one process's own, in order"
    sizes = [len(places[share.clips]) for share in shares]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    computed = np.zeros(clips)
    for share in shares:
        computed[share.clips] += share.weight / len(places[share.clips])
    np.testing.assert_allclose(computed, 1 / clips, err_msg="every clip counts alike")
