"""`tabb completion`: a script with which a shell completes commands, learners, options and their values."""

from __future__ import annotations

import dataclasses
import importlib
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, NamedTuple

import tyro

from tabb.commands import COMMANDS
from tabb.commands.help_text import help_of
from tabb.commands.options import parse
from tabb.environments.tasks import ALL_TASKS

LONGEST = 80
"""characters of a meaning that are shown beside an option"""


@dataclasses.dataclass(frozen=True)
class Options:
    """For which shell."""

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """the shell that will read the script"""


class Option(NamedTuple):
    """An option of a command: `--progress {auto,bar}` has values, `--store` takes none."""

    name: str
    meaning: str
    takes: bool
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Place:
    """What may follow certain words: further words with their meanings, and options."""

    words: tuple[str, ...]
    follow: dict[str, str]
    options: list[Option]

    @property
    def name(self) -> str:
        return " ".join(self.words)


def run(arguments: Sequence[str]) -> int:
    options = parse(Options, arguments, "tabb completion", "Print a script with which a shell completes tabb's words.")
    print({"bash": bash, "zsh": zsh, "fish": fish}[options.shell](places()), end="")
    return 0


def places() -> list[Place]:
    """Every place of a command line at which there is something to complete."""
    from tabb.registry import rule_class, rule_names

    found = [Place((), dict(COMMANDS), [])]
    for command in COMMANDS:
        module = importlib.import_module(f"tabb.commands.{command}")
        follow: dict[str, str] = dict.fromkeys((*getattr(module, "ACTIONS", ()), *getattr(module, "FIGURES", ())), "")
        if command == "train":
            follow = {name: _sentence(rule_class(name).__doc__ or "") for name in rule_names()}
        if command == "completion":
            follow = dict.fromkeys(("bash", "zsh", "fish"), "")
        options = _options(command)
        found.append(Place((command,), follow, options))
        if command != "completion":
            found += [Place((command, word), {}, _more(options, command, word)) for word in follow]
    return found


def _more(known: Sequence[Option], *words: str) -> list[Option]:
    """The options of these words that are not known already, with those of each predictor that may be chosen."""
    found = {option.name: option for option in _options(*words)}
    for name in found["--rule.predictor"].values if "--rule.predictor" in found else ():
        found |= {option.name: option for option in _options(*words, "--rule.predictor", name)}
    return [option for name, option in found.items() if name not in {one.name for one in known}]


def _options(*words: str) -> list[Option]:
    return [option for group in help_of(*words).groups for told in group.options for option in _read(*told)]


def _read(usage: str, meaning: str) -> Iterable[Option]:
    """The options of one entry of the help, such as `--store, --no-store` or `--progress {auto,bar,lines,none}`."""
    names = re.match(r"--[\w.-]+(?:, --[\w.-]+)*", usage)
    if names is None:  # an argument without a name
        return
    rest = usage[names.end() :].strip()
    choices = re.search(r"\{(\w[\w,.-]*)\}", rest.replace("{None}", ""))
    values = tuple(value for value in choices[1].split(",") if value != "None") if choices else ()
    for name in names[0].split(", "):
        tasks = tuple(ALL_TASKS) if name in ("--task", "--tasks") else ()
        yield Option(name, _sentence(meaning), bool(rest), tasks or values)


def _sentence(text: str) -> str:
    """The first thing that a meaning says, on one line that is not too long."""
    first = re.split(r"[;:.](?:\s|$)| \(default: |\n\n", " ".join(text.split()), maxsplit=1)[0].replace("`", "")
    return first if len(first) <= LONGEST else f"{first[: LONGEST - 3].rstrip()}..."


# --- bash ---

_BASH = """\
# Completion of tabb for bash, written by `tabb completion bash`.
_tabb() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" place="" last="" i
  local follow="" options="" values=""
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "${{COMP_WORDS[i]}}" in
      -*) last="${{COMP_WORDS[i]}}" ;;
      *) if [[ -z $last && $i -le 2 ]]; then place="${{place:+$place }}${{COMP_WORDS[i]}}"; fi ;;
    esac
  done
  COMPREPLY=()
  case "${{place%% *}}" in
{first}
  esac
  case "$place" in
{second}
  esac
  case "${{place%% *}} $last" in
{values}
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$options --help" -- "$current"))
  elif [[ -n $values ]]; then
    COMPREPLY=($(compgen -W "$values" -- "$current"))
  elif [[ -z $last && -n $follow ]]; then
    COMPREPLY=($(compgen -W "$follow" -- "$current"))
  fi
}}
complete -o bashdefault -o default -F _tabb tabb
"""


def bash(found: Sequence[Place]) -> str:
    """The script for bash; what it does not know it leaves to bash, which completes names of files."""
    first, second = [], []
    for place in found:
        names = " ".join(option.name for option in place.options)
        if len(place.words) < 2:
            again = place.words == ("train",)  # several learners may be named
            keep = "" if again else f' [[ $place == "{place.name}" ]] &&'
            sets = [f'options="{names}"'] if names else []
            sets += [f'{keep} follow="{" ".join(place.follow)}"'.strip()] if place.follow else []
            first += [f'    "{place.name}") {"; ".join(sets)} ;;'] if sets else []
        elif names:
            second.append(f'    "{place.name}") options="$options {names}" ;;')
    cases = [f'    {names}) values="{" ".join(values)}" ;;' for names, values in _values(found, '"{} {}"', "|")]
    return _BASH.format(first="\n".join(first), second="\n".join(second), values="\n".join(cases))


def _values(found: Sequence[Place], form: str, between: str) -> Iterable[tuple[str, tuple[str, ...]]]:
    """The values of options that have some, with all commands and options that take them in one pattern."""
    takers: dict[tuple[str, ...], dict[str, None]] = {}
    for place in found:
        for option in place.options:
            if option.values:
                takers.setdefault(option.values, {})[form.format(place.words[0], option.name)] = None
    for values, patterns in takers.items():
        yield between.join(patterns), values


# --- zsh ---

_ZSH = """\
#compdef tabb
# Completion of tabb for zsh, written by `tabb completion zsh`.
_tabb() {{
  local place="" last="" i
  local -a follow options values
  for ((i = 2; i < CURRENT; i++)); do
    case "${{words[i]}}" in
      -*) last="${{words[i]}}" ;;
      *) if [[ -z $last && $i -le 3 ]]; then place="${{place:+$place }}${{words[i]}}"; fi ;;
    esac
  done
  case "${{place%% *}}" in
{first}
  esac
  case "$place" in
{second}
  esac
  case "${{place%% *}} $last" in
{values}
  esac
  if [[ "${{words[CURRENT]}}" == -* ]]; then
    _describe -o option options
  elif (( $#values )); then
    compadd -a values
  elif [[ -z $last ]] && (( $#follow )); then
    _describe word follow
  else
    _files
  fi
}}
if [[ "${{funcstack[1]}}" == _tabb ]]; then
  _tabb "$@"
else
  compdef _tabb tabb
fi
"""


def zsh(found: Sequence[Place]) -> str:
    """The script for zsh, with meanings; names of files where there is nothing else to say."""

    def words(pairs: Iterable[tuple[str, str]]) -> str:
        return " ".join(shlex.quote(f"{name}:{meaning}" if meaning else name) for name, meaning in pairs)

    first, second = [], []
    for place in found:
        options = words((option.name, option.meaning) for option in place.options)
        if len(place.words) < 2:
            keep = "" if place.words == ("train",) else f' [[ $place == "{place.name}" ]] &&'
            sets = [f"options=({options})"] if options else []
            sets += [f"{keep} follow=({words(place.follow.items())})".strip()] if place.follow else []
            first += [f'    "{place.name}") {"; ".join(sets)} ;;'] if sets else []
        elif options:
            second.append(f'    "{place.name}") options+=({options}) ;;')
    cases = [f"    {names}) values=({' '.join(values)}) ;;" for names, values in _values(found, '"{} {}"', "|")]
    return _ZSH.format(first="\n".join(first), second="\n".join(second), values="\n".join(cases))


# --- fish ---

_FISH = """\
# Completion of tabb for fish, written by `tabb completion fish`.
function __tabb_at
    set -l words (commandline -opc)
    set -l end (math (count $argv) + 1)
    test (count $words) -ge $end; or return 1
    test $end -eq 1; or test "$words[2..$end]" = "$argv"
end
function __tabb_words
    set -l words (commandline -opc)
    __tabb_at $argv; and not string match -q -- '-*' $words
end
function __tabb_ends
    set -l words (commandline -opc)
    __tabb_at $argv; and test (count $words) -eq (math (count $argv) + 1)
end
"""


def fish(found: Sequence[Place]) -> str:
    """The script for fish, with meanings; names of files where there is nothing else to say."""
    lines = []
    for place in found:
        at = "__tabb_words" if place.words == ("train",) else "__tabb_ends"
        for word, meaning in place.follow.items():
            lines.append(f"-n {_single(f'{at} {place.name}'.strip())} -f -a {word}{_told(meaning)}")
        for option in place.options:
            takes = f" -x -a {_single(' '.join(option.values))}" if option.values else " -r" if option.takes else ""
            name = option.name.removeprefix("--")
            lines.append(f"-n {_single(f'__tabb_at {place.name}')} -l {name}{takes}{_told(option.meaning)}")
    return _FISH + "".join(f"complete -c tabb {line}\n" for line in lines)


def _told(meaning: str) -> str:
    return f" -d {_single(meaning)}" if meaning else ""


def _single(text: str) -> str:
    """`text` in single quotes, inside which fish heeds backslashes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
