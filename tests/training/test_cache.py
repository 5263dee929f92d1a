"""What was prepared is used again by runs that would prepare the same, and by no other."""

import dataclasses
import importlib
import os
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.batch import make_domains
from tabb.rules import IGDF, RULES, TABB, Pooled, ResidualPredictor
from tabb.training import Settings, source_code, train
from tabb.training import cache as cache_module
from tabb.training.cache import cache_folder, cached, entry_name, prepared

RULE = IGDF(updates=3, batch_size=8, hidden=(8,), latent_size=2)
DATA = {"source": "a", "target": "b"}
KEY = jax.random.key(1)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TABB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def settings():
    from tabb.backbones import IQL

    return Settings(updates=2, evaluations=0, backbone=IQL(policies=1, hidden=(8,), batch_size=8))


def test_where_it_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("TABB_CACHE", "off")
    assert cache_folder() is None
    monkeypatch.delenv("TABB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tabb"

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder() is None


def test_names_tell_apart_what_prepares_differently():
    name = entry_name(RULE, DATA, "pooled", KEY)
    assert name is not None
    assert name == entry_name(RULE, DATA, "pooled", KEY)
    others = [
        entry_name(dataclasses.replace(RULE, updates=4), DATA, "pooled", KEY),
        entry_name(RULE, DATA | {"source": "c"}, "pooled", KEY),
        entry_name(RULE, DATA, "none", KEY),
        entry_name(RULE, DATA, "pooled", jax.random.key(2)),
        entry_name(TABB(), DATA, "pooled", KEY),
        entry_name(TABB(predictor=ResidualPredictor(heads=2)), DATA, "pooled", KEY),
    ]
    assert len({name, *others}) == 7
    # what is read after the preparation only
    assert name == entry_name(dataclasses.replace(RULE, keep=0.25, weight_scale=2.0), DATA, "pooled", KEY)
    assert others[4] == entry_name(TABB(temperature=2.0), DATA, "pooled", KEY)


@dataclasses.dataclass(frozen=True)
class Unlisted(IGDF):
    """A rule with a field that JSON cannot hold."""

    path: Path = Path("nowhere")


RULE_FILE = """
import dataclasses
from {package} import helper
from tabb.rules import Rule

@dataclasses.dataclass(frozen=True)
class Shifted(Rule):
    name = "shifted"

    def prepare(self, domains, key, report):
        return {{"by": helper.amount()}}

    def template(self, domains, key):
        return {{"by": helper.amount()}}
"""
HELPER_FILE = "import jax.numpy as jnp\n\ndef amount():\n    return jnp.asarray({amount})\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package of a user's and imports the rule in it."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(name, amount):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "rule.py").write_text(RULE_FILE.format(package=name))
        (tmp_path / name / "helper.py").write_text(HELPER_FILE.format(amount=amount))
        source_code._digest.cache_clear()
        importlib.invalidate_caches()
        names.append(name)
        return importlib.import_module(f"{name}.rule").Shifted()

    yield write
    for name in names:
        for part in (name, f"{name}.rule", f"{name}.helper"):
            sys.modules.pop(part, None)


def test_a_rule_of_another_package_is_cached(folder, pair, package):
    domains = make_domains(*pair)
    rule = package("one_package", 1.5)
    for _ in range(2):
        models = prepared(rule, domains, DATA, "pooled", KEY, lambda what, share: None, lambda note: None)
        assert float(models["by"]) == 1.5
    assert len(list(folder.glob("shifted-*.npz"))) == 1


def test_the_entry_depends_on_what_the_rule_imports(package):
    before = entry_name(package("a_package", 1.0), DATA, "pooled", KEY)
    assert before == entry_name(package("a_package", 1.0), DATA, "pooled", KEY)
    assert before != entry_name(package("a_package", 2.0), DATA, "pooled", KEY)


def test_tabbs_rules_depend_on_their_own_code_alone():
    modules = set(source_code.sources_of([type(RULE).__module__]))
    assert {"tabb.rules.igdf", "tabb.rules.rule", "tabb.models.fitting", "tabb.networks"} <= modules
    assert not modules & {"tabb.rules.tabb", "tabb.training.run", "tabb.cli"}


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_source_of_every_rule_can_be_read(name):
    assert source_code.code_of(RULES[name]()) is not None


def test_a_rule_that_cannot_be_told_apart_is_not_cached(folder, pair):
    code = "@dataclasses.dataclass(frozen=True)\nclass Typed(IGDF):\n    pass\n"
    space = {"dataclasses": dataclasses, "IGDF": IGDF, "__name__": "typed_in_a_notebook"}
    sys.modules["typed_in_a_notebook"] = types.ModuleType("typed_in_a_notebook")
    try:
        exec(code, space)
        rules = Unlisted(updates=2), space["Typed"](updates=2)
        domains, notes = make_domains(*pair), []
        for rule in rules:
            prepared(rule, domains, DATA, "pooled", KEY, lambda what, share: None, notes.append)
        assert not folder.exists()
        assert notes == []
    finally:
        del sys.modules["typed_in_a_notebook"]


def test_flags_are_part_of_the_name(monkeypatch):
    before = entry_name(RULE, DATA, "pooled", KEY)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    assert entry_name(RULE, DATA, "pooled", KEY) != before


def test_a_second_run_takes_the_first_ones_models(folder, pair, tmp_path, monkeypatch):
    (first,) = train(RULE, *pair, settings=settings(), folder=tmp_path / "a")
    (entry,) = folder.glob("igdf-*.npz")
    monkeypatch.setattr(IGDF, "prepare", lambda *_: pytest.fail("was prepared again"))
    (again,) = train(RULE, *pair, settings=settings(), folder=tmp_path / "b")
    np.testing.assert_array_equal(first.policy.weights[0], again.policy.weights[0])
    with pytest.raises(pytest.fail.Exception, match="prepared again"):
        train(RULE, *pair, settings=settings(), seeds=[1])
    assert list(folder.glob("*.npz")) == [entry]


def damaged(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def cut(file):
    file.write_bytes(file.read_bytes()[:100])


def of_another(file):
    cache_module.save_tree(file, {"a": jnp.zeros(3)}, {"entry": "another"})


@pytest.mark.parametrize("harm", [damaged, cut, of_another])
def test_a_damaged_entry_is_made_anew(folder, harm):
    told = []
    make, template = (lambda: {"a": jnp.arange(3.0)}), (lambda: {"a": jnp.zeros(3)})
    cached("x.npz", template, make, told.append)
    assert told == []
    harm(folder / "x.npz")
    np.testing.assert_array_equal(cached("x.npz", template, make, told.append)["a"], [0, 1, 2])
    assert len(told) == 1
    assert "made anew" in told[0]
    assert "\n" not in told[0]
    cached("x.npz", template, lambda: pytest.fail("was made again"), told.append)


def test_a_cache_that_cannot_be_written_stops_nothing(folder):
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file, where a folder should be")
    told = []
    assert float(cached("x.npz", dict, lambda: {"a": jnp.ones(())}, told.append)["a"]) == 1
    assert len(told) == 1
    assert "not kept" in told[0]


def test_a_rule_that_prepares_nothing_leaves_nothing(folder, pair):
    train(Pooled(), *pair, settings=settings())
    assert not folder.exists()


def test_entries_unused_for_longest_go_first(folder, monkeypatch):
    def put(name, at):
        cached(name, dict, lambda: {"a": jnp.zeros(1000)}, print)
        os.utime(folder / name, (at, at))

    put("old.npz", 1)
    put("used.npz", 2)
    put("new.npz", 3)
    cached("old.npz", lambda: {"a": jnp.zeros(1000)}, lambda: pytest.fail("is there"), lambda text: None)
    monkeypatch.setattr(cache_module, "LARGEST", 7 * (folder / "new.npz").stat().st_size // 2)
    cached("one_more.npz", dict, lambda: {"a": jnp.zeros(1000)}, print)
    assert {file.name for file in folder.glob("*.npz")} == {"old.npz", "new.npz", "one_more.npz"}
