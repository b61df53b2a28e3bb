import itertools

from hypothesis import given
from hypothesis import strategies as st

from stages.manipulate.__main__ import evenly


@given(count=st.integers(2, 2000), share=st.floats(0, 1))
def test_targets_are_chosen_evenly_and_none_twice(count, share):
    most = 1 + int(share * (count - 2))
    chosen = evenly(range(count), most)
    steps = {after - before for before, after in itertools.pairwise([*chosen, count])}
    assert (len(chosen), chosen[0]) == (most, 0)
    assert steps <= {count // most, -(-count // most)}
