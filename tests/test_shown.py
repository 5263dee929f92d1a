from tabb.shown import alone, percent, rounded, tenths


def test_what_is_small_is_not_shown_as_nothing() -> None:
    assert [tenths(value) for value in (0.0, -0.0, -0.04, 0.00123, 12.34, 5123.4)] == (
        ["0.0", "0.0", "-0.04", "0.00123", "12.3", "5,123.4"]
    )
    assert [tenths(value, 50.0) for value in (0.04, -0.04, 50.0)] == ["0.0", "0.0", "50.0"]
    assert [tenths(value, 2e-5) for value in (1e-5, -2e-5)] == ["1e-05", "-2e-05"]
    assert [alone(score) for score in (0.0, -1.7e-6, 0.04, 0.4, 12.34)] == ["0.0", "-1.7e-06", "0.04", "0.4", "12.3"]
    assert [rounded(value) for value in (12.345678, -1.7413e-6, -0.0)] == [12.35, -1.74e-06, 0.0]
    assert str(rounded(-0.0)) == "0.0"


def test_a_share_is_nothing_or_all_only_where_it_is() -> None:
    shares = (0.0, 0.0004, 0.004, 0.023, 0.5, 0.994, 0.996, 0.9996, 1.0, 1.004, 2.5, -0.2)
    assert [percent(share) for share in shares] == [
        *("0%", "< 0.1%", "0.4%", "2%", "50%", "99%", "99.6%", "> 99.9%", "100%", "100.4%", "250%", "-20%")
    ]
    assert [percent(share, tenths_below=0.1) for share in (0.0, 0.023, 0.25, 0.996)] == ["0.0%", "2.3%", "25%", "99.6%"]
    assert percent(float("nan")) == "–"
