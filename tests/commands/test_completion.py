"""`tabb completion`: what the shells themselves make of the scripts."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest

from tabb.cli import COMMANDS, main
from tabb.commands import completion
from tabb.commands.help_text import Group, help_of, read_help
from tabb.environments.tasks import ALL_TASKS
from tabb.registry import rule_names

HELP = """\
usage: tabb go [-h] [OPTIONS]
  [--more]

Go somewhere.

╭─ options ──────────────────────────────────────╮
│ -h, --help      show this help message         │
│ --far INT       how far, in steps that are     │
│                 counted (default: 3)           │
│ --a-long-option {one,two}                      │
│                 which of them                  │
╰────────────────────────────────────────────────╯
╭─ rule options ─────────────────────────────────╮
│ What the rule does.                            │
│ ────────────────────────────────────────────── │
│ --rule.on       on                             │
╰────────────────────────────────────────────────╯
"""


@pytest.fixture(scope="module")
def places():
    return completion.places()


@pytest.fixture(scope="module")
def scripts(places, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    written = {}
    for shell in ("bash", "zsh", "fish"):
        written[shell] = folder / f"tabb.{shell}"
        written[shell].write_text(getattr(completion, shell)(places), encoding="utf-8")
    return written


def in_bash(script, line):
    words = ["tabb", *line.split(" ")]
    code = (
        f"source {script}\nCOMP_WORDS=({shlex.join(words)})\nCOMP_CWORD={len(words) - 1}\n"
        '_tabb\nprintf "%s\\n" "${COMPREPLY[@]}"'
    )
    return said(["bash", "--norc", "-c", code])


def in_zsh(script, line):
    """The completion system needs a terminal; its functions are stood in for by what they would offer."""
    words = ["tabb", *line.split(" ")]
    code = (
        'compdef() {}\n_files() { print FILES }\ncompadd() { print -l -- ${(P)2} }\n'
        '_describe() { local -a all; all=(${(P)@[-1]}); print -l -- ${all%%:*} }\n'
        f"source {script}\nwords=({shlex.join(words)})\nCURRENT={len(words)}\n_tabb"
    )  # fmt: skip
    offered = said(["zsh", "-f", "-c", code])
    return offered if offered == {"FILES"} else {word for word in offered if word.startswith(words[-1])}


def in_fish(script, line):
    return said(["fish", "--no-config", "-c", f"source {script}; complete -C {shlex.quote(f'tabb {line}')} | cut -f1"])


def said(command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(("shell", "ask"), [("bash", in_bash), ("zsh", in_zsh), ("fish", in_fish)])
def test_a_shell_completes_what_the_command_line_knows(shell, ask, scripts):
    assert ask(scripts[shell], "") == set(COMMANDS)
    assert ask(scripts[shell], "ex") == {"export"}
    assert ask(scripts[shell], "train ") >= set(rule_names())
    assert ask(scripts[shell], "train tabb tar") == {"target-only"}
    assert ask(scripts[shell], "train tabb --rule.predictor.up") == {"--rule.predictor.updates"}
    assert ask(scripts[shell], "train dara --rule.unc") == set()  # an option of another rule
    assert ask(scripts[shell], "train tabb --task hopper-grav") == {t for t in ALL_TASKS if t.startswith("hopper-grav")}
    assert ask(scripts[shell], "train tabb --progress ") == {"auto", "bar", "lines", "none"}
    assert ask(scripts[shell], "export run --format ") == {"onnx", "stablehlo", "npz"}
    assert ask(scripts[shell], "data ") >= {"list", "describe", "get", "convert"}
    assert "--to" in ask(scripts[shell], "track --")
    assert ask(scripts[shell], "data list --js") == {"--json"}
    assert ask(scripts[shell], "completion ") == {"bash", "zsh", "fish"}


def test_options_are_those_of_the_help(places):
    (report,) = [place for place in places if place.words == ("report",)]
    assert {option.name for option in report.options} >= {"--out", "--source", "--target"}
    (train,) = [place for place in places if place.words == ("train",)]
    options = {option.name: option for option in train.options}
    assert not options["--store"].takes
    assert options["--jobs"].meaning == "runs at the same time, one core each (CPU only)"
    assert options["--start-parts"].values == ("policy", "critic")
    assert options["--track"].values == ("tensorboard", "trackio", "wandb")
    assert options["--out"].takes
    assert not options["--out"].values


def test_the_command_prints_its_script(monkeypatch, places, capsys):
    monkeypatch.setattr(completion, "places", lambda: places)
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == completion.bash(places)
    assert main(["completion", "tcsh"]) == 2
    assert "'tcsh'" in capsys.readouterr().err


def test_help_is_read_without_its_boxes():
    told = read_help(HELP)
    assert told.usage.split() == ["tabb", "go", "[-h]", "[OPTIONS]", "[--more]"]
    assert told.text == "Go somewhere."
    assert told.groups == [
        Group(
            "options",
            "",
            [
                ("--far INT", "how far, in steps that are counted (default: 3)"),
                ("--a-long-option {one,two}", "which of them"),
            ],
        ),
        Group("rule options", "What the rule does.", [("--rule.on", "on")]),
    ]


def test_help_of_a_real_command_has_its_options():
    told = help_of("collect")
    options = dict(told.groups[-1].options)
    assert options["--rows INT"].endswith("(default: 5000)")
    assert not any(name.startswith("-h") for name in options)
