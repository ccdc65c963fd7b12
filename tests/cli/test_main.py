"""The `bgsuper` command: help, version, errors of one line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from bgsuper import __version__
from bgsuper.cli.main import bgsuper, main


def _below(command: click.Command) -> dict[str, click.Command]:
    """The commands of a group, also of one that imports them when they are asked for."""
    if not isinstance(command, click.Group):
        return {}
    context = click.Context(command)
    below = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return {name: each for name, each in below.items() if each is not None}


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    below = _below(command).items()
    return [(path, command), *(found for name, each in below for found in _commands(each, (*path, name)))]


COMMANDS = _commands(bgsuper)


@pytest.mark.parametrize(
    ("path", "command"), COMMANDS, ids=lambda item: " ".join(item) if isinstance(item, tuple) else ""
)
def test_help_names_every_option_and_says_what_it_does(
    path: tuple[str, ...], command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-h` and `--help` of each command document each of its options and its purpose."""
    assert main([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert main([*path, "-h"]) == 0
    assert capsys.readouterr().out == text
    assert command.help is not None
    assert command.help.splitlines()[0] in " ".join(text.split())
    for option in command.params:
        if isinstance(option, click.Argument):
            # Arguments have no help of their own: the command's speaks of them, with examples.
            metavar = option.make_metavar(click.Context(command)).strip("[]")
            assert metavar in f"{command.help} {command.epilog}", option.name
            assert "Examples:" in text
            continue
        assert isinstance(option, click.Option)
        assert option.help, option.name
        assert all(name in text for name in option.opts)
    for name in _below(command):
        assert f"\n  {name} " in text


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints one line with the version."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"bgsuper {__version__}\n"


def test_without_a_command_the_help_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was asked for: that is a mistake, and the help says what can be."""
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Commands:" in captured.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fly"], "No such command 'fly'"),
        (["--fly"], "No such option"),
        (["demo", "--secnds", "9"], "bgsuper demo --help"),
        (["demo", "more"], "unexpected extra argument"),
        (["demo", "--seconds", "soon"], "--seconds"),
        (["demo", "--seconds", "1"], "expected 8 to 600 seconds, got 1: set --seconds"),
        (["demo", "--seconds", "nan"], "expected 8 to 600 seconds, got nan"),
        (["demo", "--svg", "{tmp}/none/picture.svg"], "--svg"),
        (["demo", "--directory", "{tmp}/file"], "name another with --directory"),
        (["demo", "--directory", "{tmp}/file/below"], "name another with --directory"),
        (["demo", "--directory", "{tmp}/none/below"], "name another with --directory"),
        (["demo", "--directory", "{tmp}/used"], "holds 'something'"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, one line on standard error, nothing on standard output, nothing changed on the disk."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "something").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("bgsuper: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_that_allows_no_writing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """It is named before anything is started. In /proc not even root may make a file."""
    assert main(["demo", "--directory", "/proc/bgsuper-demo"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("bgsuper: ")
    assert "/proc/bgsuper-demo" in captured.err
    assert captured.err.count("\n") == 1
