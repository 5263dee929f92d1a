from tabb.shown import alone, rounded, tenths


def test_what_is_small_is_not_shown_as_nothing() -> None:
    assert [tenths(value) for value in (0.0, -0.0, -0.04, 0.00123, 12.34, 5123.4)] == (
        ["0.0", "0.0", "-0.04", "0.00123", "12.3", "5,123.4"]
    )
    assert [tenths(value, 50.0) for value in (0.04, -0.04, 50.0)] == ["0.0", "0.0", "50.0"]
    assert [tenths(value, 2e-5) for value in (1e-5, -2e-5)] == ["1e-05", "-2e-05"]
    assert [alone(score) for score in (0.0, -1.7e-6, 0.04, 0.4, 12.34)] == ["0.0", "-1.7e-06", "0.04", "0.4", "12.3"]
    assert [rounded(value) for value in (12.345678, -1.7413e-6, -0.0)] == [12.35, -1.74e-06, 0.0]
    assert str(rounded(-0.0)) == "0.0"
