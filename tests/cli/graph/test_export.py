"""`export`: LDK's bytes, whole or not at all, and never over something else."""

from __future__ import annotations

import lzma
import stat
from pathlib import Path

import pytest

from bgsuper.cli.main import main
from bgsuper.lightning.routing.gossip import NetworkGraph
from tests.cli.store.conftest import Run
from tests.lightning.routing.test_rapid import FULL, synced

from .graphs import NETWORK, Source

LDK_GRAPH = lzma.decompress(Path(__file__).parents[2].joinpath("vectors", "ldk_mesh3x3_graph.xz").read_bytes())


def test_export_gives_the_graphs_bytes(source: Source, tmp_path: Path, run: Run) -> None:
    """Those of `NetworkGraph.write`, wherever it lies, in a file of its owner's alone."""
    output = tmp_path / "out.bin"
    ran = run("export", source.name, output)
    assert (ran.status, ran.err) == (0, "")
    assert "2 channels, 3 nodes" in ran.words
    assert output.read_bytes() == NETWORK.write()
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_export_to_standard_output(source: Source, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """The bytes and nothing else."""
    capsysbinary.readouterr()
    assert main(["graph", "export", source.name, "-"]) == 0
    assert capsysbinary.readouterr() == (NETWORK.write(), b"")


def test_export_of_what_ldk_wrote(tmp_path: Path, run: Run) -> None:
    """LDK's own file becomes the sorted one of the same graph."""
    (tmp_path / "ldk.bin").write_bytes(LDK_GRAPH)
    assert run("export", tmp_path / "ldk.bin", tmp_path / "out.bin").status == 0
    assert (tmp_path / "out.bin").read_bytes() == NetworkGraph.read(LDK_GRAPH).write()


def test_export_of_a_snapshot(tmp_path: Path, run: Run) -> None:
    """What a node makes of it, the time of the snapshot included."""
    (tmp_path / "snapshot.bin").write_bytes(FULL)
    assert run("export", tmp_path / "snapshot.bin", tmp_path / "out.bin").status == 0
    assert (tmp_path / "out.bin").read_bytes() == synced(FULL).network_graph.write()


def test_a_file_that_is_there_stays(source: Source, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is said twice; then the new one is private, whatever the old one was."""
    output = tmp_path / "out.bin"
    output.write_text("precious")
    output.chmod(0o644)
    with monkeypatch.context() as patched:
        patched.setattr("bgsuper.cli.graph.export.load", None)  # it is said before a large graph is read
        ran = run("export", source.name, output)
    assert ran.status == 2
    assert "--force" in ran.refusal
    assert output.read_text() == "precious"
    assert run("export", source.name, output, "--force").status == 0
    assert output.read_bytes() == NETWORK.write()
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert not list(tmp_path.glob("out.bin.*"))


def test_a_file_that_comes_meanwhile_stays(
    source: Source, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that was not there when it was first looked at."""
    output = tmp_path / "out.bin"
    output.write_text("precious")
    monkeypatch.setattr("bgsuper.cli.graph.export.check_free", lambda *_: None)
    monkeypatch.setattr("bgsuper.cli.output.check_free", lambda *_: None)
    assert "is there already" in run("export", source.name, output).refusal
    assert output.read_text() == "precious"


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_what_is_no_plain_file_stays(tmp_path: Path, run: Run, source: Source, force: list[str]) -> None:
    """A directory, a device, a link to nowhere: not even with --force."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path / "directory", tmp_path / "link", Path("/dev/null")):
        assert "no plain file" in run("export", source.name, path, *force).refusal
    assert Path("/dev/null").is_char_device()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_an_error_leaves_nothing_half_written(
    tmp_path: Path, run: Run, source: Source, monkeypatch: pytest.MonkeyPatch, force: list[str]
) -> None:
    """Nor anything less than there was."""
    output = tmp_path / "out.bin"
    if force:
        output.write_text("precious")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bgsuper.cli.output.full_sync", full)
    ran = run("export", source.name, output, *force)
    assert ran.status == 2
    assert "No space left" in ran.refusal
    assert [path.read_text() for path in tmp_path.glob("out.bin*")] == ["precious"] * len(force)


def test_binary_does_not_go_to_a_terminal(source: Source, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to do instead is said, before a large graph is read."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("bgsuper.cli.graph.export.load", None)
    assert "terminal" in run("export", source.name, "-").refusal


def test_force_is_about_a_file(source: Source, run: Run) -> None:
    """Not about standard output."""
    assert "leave it out" in run("export", source.name, "-", "--force").refusal
