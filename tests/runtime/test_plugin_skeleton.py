from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sterling.runtime.manifest import load_manifest
from sterling.runtime.plugin_lock import make_lock, scan_plugins
from sterling.runtime.plugin_skeleton import PluginNotBegun, write_skeleton


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "lane"), [("empty_cells", "explanation"), ("a", "decision"), ("x-2", "decision")]
)
def test_a_plugin_that_was_begun_passes_its_own_test(tmp_path: Path, plugin: str, lane: str) -> None:
    files = write_skeleton(plugin, lane=lane, pack="insight", folder=tmp_path / "new")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(files[-1])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


def test_its_manifest_holds_in_both_lanes_and_can_be_locked(tmp_path: Path) -> None:
    for pack, lane in (("insight", "decision"), ("ci", "explanation")):
        folder = tmp_path / "packs" / pack / "plugins"
        toml, code, test = write_skeleton("mine", lane=lane, pack=pack, folder=folder)
        test.rename(tmp_path / f"{pack}_test.py")
        assert load_manifest(toml, pack, folder).lane == lane
        assert code.stem == "mine"

    scan = scan_plugins(root=tmp_path)

    assert scan.refusals == ()
    assert sorted(make_lock(scan.manifests, root=tmp_path)["plugins"]) == ["ci/mine", "insight/mine"]


@pytest.mark.parametrize(
    "plugin", ["", "Big", "../up", "a/b", "a b", "1a", "a.b", "ä", "a" * 65, "-a", "a\n"]
)
def test_an_id_that_names_no_plugin_writes_nothing(tmp_path: Path, plugin: str) -> None:
    with pytest.raises(PluginNotBegun):
        write_skeleton(plugin, lane="decision", pack="insight", folder=tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_pack_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginNotBegun, match="nonesuch"):
        write_skeleton("mine", lane="decision", pack="nonesuch", folder=tmp_path)


@pytest.mark.parametrize("name", ["mine.toml", "mine.py", "test_mine.py"])
@pytest.mark.parametrize("link", [False, True])
def test_nothing_is_written_over_and_nothing_half(tmp_path: Path, name: str, link: bool) -> None:
    if link:
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    else:
        (tmp_path / name).write_text("kept")

    with pytest.raises(PluginNotBegun, match=name):
        write_skeleton("mine", lane="decision", pack="insight", folder=tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(PluginNotBegun):
        write_skeleton("mine", lane="decision", pack="insight", folder=tmp_path / "file" / "below")
