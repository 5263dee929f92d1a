"""Which policy a quality is."""

from tabb.behaviours.scored_policies import ScoredPolicy, best_of, half_as_good


def test_qualities():
    """What few episodes said decides who is scored again, and that decides."""
    few, again = [0, 40, 80, 45, 78, 30, 20, 50], [1, 42, 60, 30, 76, 33, 9, 55]
    kept = [ScoredPolicy(10 * k, score, k) for k, score in enumerate(few)]
    asked = []

    def more(policy):
        asked.append(policy)
        return again[policy]

    best = best_of(kept, more)
    assert best == ScoredPolicy(40, 76, 4)  # 80 was luck
    assert sorted(asked) == [2, 3, 4, 7]
    assert half_as_good(kept, best, more) == ScoredPolicy(10, 42, 1)  # of 40, 45, 30 and 50 nearest to 38
    # Where that one stands still: of 45, 50, 30 and 20, which come to 30, 55, 33 and 9.
    assert half_as_good(kept, best, more, lambda policy: policy != 1) == ScoredPolicy(50, 33, 5)
