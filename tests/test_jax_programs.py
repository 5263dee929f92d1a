import jax
import jax.numpy as jnp

from tabb import jax_programs
from tabb.jax_programs import drop_programs_if_many, mapped_share


def test_the_share_of_mapped_pieces_is_told_and_is_zero_where_the_system_is_silent(tmp_path, monkeypatch):
    maps, limit = tmp_path / "maps", tmp_path / "limit"
    maps.write_text("a piece\n" * 30)
    limit.write_text("120\n")
    monkeypatch.setattr(jax_programs, "MAPS", maps)
    monkeypatch.setattr(jax_programs, "LIMIT", limit)
    assert mapped_share() == 0.25
    limit.write_text("max\n")
    assert mapped_share() == 0
    limit.unlink()
    assert mapped_share() == 0


def test_programs_are_dropped_at_the_share_and_kept_below_it(monkeypatch):
    traced = []

    @jax.jit
    def twice(x):
        traced.append(1)
        return 2 * x

    monkeypatch.setattr(jax_programs, "mapped_share", lambda: 0.39)
    twice(jnp.ones(3))
    assert not drop_programs_if_many()
    twice(jnp.ones(3))
    assert len(traced) == 1
    monkeypatch.setattr(jax_programs, "mapped_share", lambda: 0.4)
    assert drop_programs_if_many()
    assert twice(jnp.ones(3)).tolist() == [2, 2, 2]
    assert len(traced) == 2
