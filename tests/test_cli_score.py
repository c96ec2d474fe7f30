"""The score command: rows, continuing, exit codes, and names that bite."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from gmiqa.cli import main
from gmiqa.data import images
from gmiqa.score.folder import HEADER, Extremes, Table, find, row_of
from gmiqa.score.result import Score
from gmiqa_core import checkpoints, network
from gmiqa_core.errors import UserError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return str(checkpoints.save(network.build("tiny"), path, max_side=64, target="the <b>opinion</b> of a test"))


@pytest.fixture
def folder(tmp_path):
    """Six good pictures, one of them in a folder inside, and a broken one; a text file and a hidden file beside."""
    folder = tmp_path / "pictures"
    (folder / "inside").mkdir(parents=True)
    for i in range(6):
        x = torch.rand(3, 40, 48, generator=torch.manual_seed(i))
        images.write(x, folder / ("inside" if i == 5 else "") / f"{i}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("words")
    (folder / ".hidden.png").write_bytes((folder / "0.png").read_bytes())
    return folder


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_table_with_the_promised_header(folder, checkpoint, tmp_path, capsys):
    table = tmp_path / "scores.csv"
    assert main(["score", str(folder), "--csv", str(table), "--checkpoint", checkpoint]) == 3
    assert table.read_text().splitlines()[0] == "path,quality,sigma,distortion,probability,severity,width,height,error"
    written = rows(table)
    assert [os.path.basename(row["path"]) for row in written] == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
        "4.png",
        "broken.jpg",
    ]
    good, broken = written[0], written[-1]
    assert 0 <= float(good["quality"]) <= 100 and (good["width"], good["height"], good["error"]) == ("48", "40", "")
    assert broken["error"] and not any(broken[name] for name in HEADER[1:-1])
    captured = capsys.readouterr()
    assert captured.out == "" and "5 scored; 1 could not be read" in captured.err


def test_recursive_enters_folders_and_all_good_exits_0(folder, checkpoint, capsys):
    (folder / "broken.jpg").unlink()
    assert main(["score", str(folder), "--recursive", "--checkpoint", checkpoint]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and "inside" in lines[-1] and "quality" in lines[0]


def test_json_lines_hold_numbers_and_null_for_what_is_not_known(folder, checkpoint, capsys):
    assert main(["score", str(folder), "--json", "--checkpoint", checkpoint]) == 3
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(objects) == 6 and objects[-1]["quality"] is None and objects[-1]["error"]
    assert sum(objects[0]["distortions"].values()) == pytest.approx(1)


def test_maps_are_written_beside_each_other_whatever_the_names(folder, checkpoint, tmp_path, monkeypatch):
    os.rename(folder / "0.png", folder / ("ä" * 125 + ".png"))
    monkeypatch.chdir(folder / "inside")
    assert main(["score", "..", "5.png", "--map", str(tmp_path / "maps"), "--checkpoint", checkpoint]) == 3
    written = sorted(path.relative_to(tmp_path / "maps") for path in (tmp_path / "maps").rglob("*") if path.is_file())
    plain = [str(path) for path in written if "ä" not in str(path)]
    assert plain == ["5.png.png", *(f"up/{i}.png.png" for i in range(1, 5))]
    assert len(written) == 6 and images.size(tmp_path / "maps" / written[0]) == (48, 40)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no/such/picture.jpg"], "no/such/picture.jpg"),
        (["{empty}"], "--recursive"),
        (["{folder}", "--checkpoint", "{folder}/0.png"], "0.png"),
        (["{folder}", "--device", "gpu9"], "gpu9"),
        (["{folder}", "--recursive", "--map", "{folder}/inside/maps"], "inside/maps"),
        (["{folder}/0.png", "--map", "{folder}/notes.txt"], "notes.txt"),
        (["{folder}", "--map", "maps", "--engine", "ray"], "--engine local"),
        (["{folder}", "--csv", "{folder}/notes.txt"], "notes.txt"),
        (["{folder}", "--csv", "{folder}/no/such/folder.csv"], "folder.csv"),
        (["{folder}", "--sheet", "{folder}/no/such/sheet.html"], "sheet.html"),
    ],
)
def test_a_mistake_in_the_call_exits_2_and_names_it(folder, checkpoint, tmp_path, capsys, arguments, words):
    (tmp_path / "empty").mkdir()
    arguments = [a.format(folder=folder, empty=tmp_path / "empty") for a in arguments]
    if "--checkpoint" not in arguments:
        arguments += ["--checkpoint", checkpoint]
    assert main(["score", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert (folder / "notes.txt").read_text() == "words"


def test_a_table_goes_on_after_a_cut_in_the_middle_of_a_row(folder, checkpoint, tmp_path, capsys):
    table = tmp_path / "scores.csv"
    command = ["score", str(folder), "--csv", str(table), "--checkpoint", checkpoint]
    main(command)
    whole = table.read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in (b"", b"path,qua", lines[0], b"".join(lines[:3]), b"".join(lines[:3]) + lines[3][:9]):
        table.write_bytes(kept)
        assert main(command) == 3
        assert table.read_bytes() == whole
    assert main(command) == 3 and table.read_bytes() == whole
    assert "6 of them were already there" in capsys.readouterr().err


def test_a_table_of_another_model_is_not_continued(folder, checkpoint, tmp_path, capsys):
    table = tmp_path / "scores.csv"
    main(["score", str(folder), "--csv", str(table), "--checkpoint", checkpoint])
    torch.manual_seed(1)
    other = checkpoints.save(network.build("tiny", width=12), tmp_path / "other.safetensors", max_side=64)
    before = table.read_bytes()
    assert main(["score", str(folder), "--csv", str(table), "--checkpoint", str(other)]) == 2
    assert "another model" in capsys.readouterr().err and table.read_bytes() == before


def test_a_killed_run_loses_nothing(folder, checkpoint, tmp_path):
    for i in range(300):
        os.link(folder / f"{i % 5}.png", folder / f"copy{i:03d}.png")
    table = tmp_path / "scores.csv"
    command = [
        sys.executable,
        "-m",
        "gmiqa",
        "score",
        str(folder),
        "--csv",
        str(table),
        "--checkpoint",
        checkpoint,
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not table.exists() or table.read_bytes().count(b"\n") < 20:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = table.read_bytes()
    assert main(command[3:]) == 3
    complete = kept[: kept.rindex(b"\n") + 1]
    assert table.read_bytes().startswith(complete)
    paths = [row["path"] for row in rows(table)]
    assert len(paths) == len(set(paths)) == 306


def test_the_contact_sheet_is_one_file_with_escaped_names(folder, checkpoint, tmp_path, capsys):
    os.rename(folder / "0.png", folder / "<script>&'.png")
    arguments = ["--csv", str(tmp_path / "t.csv"), "--worst", "2", "--checkpoint", checkpoint]
    assert main(["score", str(folder), *arguments]) == 3
    assert "the 2 worst:" in capsys.readouterr().out
    arguments = ["--sheet", str(tmp_path / "s.html"), "--checkpoint", checkpoint]
    assert main(["score", str(folder), *arguments]) == 3
    assert (tmp_path / "t.html").read_text().count("<figure>") == 4
    sheet = (tmp_path / "s.html").read_text()
    assert sheet.count("<figure>") == 10 and sheet.count("data:image/jpeg;base64,") == 10 and "http" not in sheet
    assert "<script>" not in sheet and "&lt;script&gt;&amp;" in sheet and "<b>opinion" not in sheet


FORMULAS = ['=HYPERLINK("http://x")', "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "＝1", " =1"]


@pytest.mark.parametrize("name", [*FORMULAS, 'a"b,c', "new\nline", "тест 图片 🙂", "a;b"])
def test_any_name_survives_the_table_and_runs_nothing(tmp_path, name):
    table = Table(tmp_path / "t.csv")
    assert list(table.open()) == []
    table.add(row_of(Score(path=f"{name}.png", error="=1+1")))
    table.add(row_of(Score(quality=12.5, sigma=1, path="last.png")))
    table.close()
    again = Table(tmp_path / "t.csv")
    first, last = again.open()
    assert first["path"].removeprefix("./") == f"{name}.png" and f"{name}.png" in again and last["quality"] == "12.5000"
    frame = pd.read_csv(tmp_path / "t.csv")
    assert len(frame) == 2
    for cell in first.values():
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝", " "))


def test_a_name_that_is_no_utf8_keeps_the_table_readable(tmp_path):
    table = Table(tmp_path / "t.csv")
    list(table.open())
    table.add(row_of(Score(path=os.fsdecode(b"caf\xe9.png"), quality=1, sigma=1)))
    table.close()
    assert pd.read_csv(io.BytesIO((tmp_path / "t.csv").read_bytes())).path[0] == r"caf\xe9.png"
    again = Table(tmp_path / "t.csv")
    list(again.open())
    assert os.fsdecode(b"caf\xe9.png") in again


def test_a_foreign_file_is_never_cut(tmp_path):
    for content in (b"my notes, one line without an end", b"a,b\n1,2\n", b"path,quality\n", b"\x00\xff"):
        path = tmp_path / "mine.csv"
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"mine\.csv"):
            list(Table(path).open())
        assert path.read_bytes() == content


def test_links_in_a_circle_end_and_no_folder_is_entered_twice(folder):
    os.symlink(folder, folder / "inside" / "up")
    os.symlink(folder / "inside", folder / "twin")
    os.symlink("a.png", folder / "b.png")
    os.symlink("b.png", folder / "a.png")
    paths = list(find([folder], recursive=True))
    assert [os.path.basename(path) for path in paths].count("5.png") == 1
    assert {"a.png", "b.png", "broken.jpg"} <= {os.path.basename(path) for path in paths}
    assert "notes.txt" not in str(paths) and ".hidden" not in str(paths)


def test_extremes_are_the_ends_of_the_sorted_list():
    extremes = Extremes(3)
    for i in (5, 1, 9, 7, 3, 8):
        extremes.add(row_of(Score(quality=i, sigma=1, path=str(i))))
    extremes.add(row_of(Score(path="bad", error="broken")))
    assert [row["path"] for row in extremes.best] == ["9", "8", "7"]
    assert [row["path"] for row in extremes.worst] == ["1", "3", "5"]
