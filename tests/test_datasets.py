"""Tiny folders in exactly the layouts of the authors, the known traps included."""

import os
import re
import subprocess
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import openpyxl
import pandas as pd
import pytest
import torch
from scipy.io import savemat

from gmiqa import cli
from gmiqa.data import datasets, images
from gmiqa.data.datasets import DatasetError, csiq, live
from gmiqa.data.datasets.download import get
from gmiqa.data.pictures import Pictures

PIXELS = torch.arange(3 * 8 * 12).remainder(256).to(torch.uint8).reshape(3, 8, 12)
PNG, BMP, JPG = (images.encode(PIXELS, format) for format in ("png", "bmp", "jpeg"))


def put(path, data=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data or {".png": PNG, ".bmp": BMP}.get(path.suffix.lower(), JPG))


def cells(names):
    array = np.empty((len(names), 1), dtype=object)
    array[:, 0] = names
    return array


def kadid10k(root, references=3):
    rows = ["dist_img,ref_img,dmos,var"]
    for r in range(1, references + 1):
        put(root / f"images/I{r:02d}.png")
        for t in range(1, 26):
            for k in range(1, 6):
                put(root / f"images/I{r:02d}_{t:02d}_{k:02d}.png")
                rows.append(f"I{r:02d}_{t:02d}_{k:02d}.png,I{r:02d}.png,{5 - 0.8 * (k - 1) - 0.01 * r:.2f},0.81")
    (root / "dmos.csv").write_text("\n".join(rows) + "\n")


def koniq10k(root, n=20, scores=True, sets=True):
    names = [f"{1000 + i}.jpg" for i in range(n)]
    for name in names:
        put(root / "1024x768" / name)
    mos = np.linspace(1.2, 4.4, n)
    counts = {f"c{k}": [10] * n for k in range(1, 6)}
    common = {"image_name": names, **counts, "c_total": [50] * n}
    percent = np.linspace(3.9, 88.4, n)
    if scores:
        frame = pd.DataFrame({**common, "MOS": mos, "SD": [0.5] * n, "MOS_zscore": percent})
        frame.to_csv(root / "koniq10k_scores_and_distributions.csv", index=False)
    if sets:
        parts = ["training"] * (n - 6) + ["validation"] * 2 + ["test"] * 4
        frame = pd.DataFrame({**common, "MOS": percent, "SD": [0.5] * n, "set": parts})
        frame.to_csv(root / "koniq10k_distributions_sets.csv", index=False)


def livec(root, n=12):
    training = [f"t{k}.bmp" for k in range(1, 8)]
    names = [f"{i}.bmp" if i % 3 else f"{i}.JPG" for i in range(3, 3 + n)]
    for name in training:
        put(root / "Images/trainingImages" / name)
    for name in names:
        put(root / "Images" / name)
    (root / "Data").mkdir()
    savemat(root / "Data/AllImages_release.mat", {"AllImages_release": cells(training + names)})
    savemat(root / "Data/AllMOS_release.mat", {"AllMOS_release": np.linspace(3, 92, 7 + n)[None]})
    savemat(root / "Data/AllStdDev_release.mat", {"AllStdDev_release": np.full((1, 7 + n), 18.0)})


def csiq_records(references=(1600, "sunset_sparrow")):
    return [(name, number, kind, level, 0.05, 0.2 * level - 0.1)
            for number, kind in enumerate(csiq.TYPES, 1) for name in references for level in range(1, 5)]  # fmt: skip


def csiq_images(root):
    for name, _, kind, level, *_ in csiq_records():
        folder, part, _ = csiq.TYPES[kind]
        put(root / f"dst_imgs/{folder}/{name}.{part}.{level}.png")
        put(root / f"src_imgs/{name}.png")


def csiq_sheet(root):
    csiq_images(root)
    book = openpyxl.Workbook()
    book.active.title = "all_by_distortion"
    sheet = book.create_sheet("all_by_image")
    sheet["D1"] = "CSIQ image quality database"
    for column, title in enumerate(("image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"), 4):
        sheet.cell(4, column, title)
    row = 5
    for k, record in enumerate(csiq_records()):
        if k and k % 8 == 0:
            row += 1  # blank rows between blocks
        for column, value in enumerate(record, 4):
            sheet.cell(row, column, value)
        row += 1
    book.save(root / "csiq.DMOS.xlsx")


def csiq_text(root):
    csiq_images(root)
    lines = [f"{name}.{csiq.TYPES[kind][1]}.{level}.png {dmos:.3f}" for name, _, kind, level, _, dmos in csiq_records()]
    (root / "csiq.txt").write_text("\n".join(lines) + "\n\n")


def live_release2(root, realigned=True):
    total = sum(live.COUNTS.values())
    names = [f"ref{k % 29:02d}.bmp" for k in range(total)]
    copies = np.zeros(total)
    copies[::5] = 1
    copies[1:12:5] = 0
    for folder, count in live.COUNTS.items():
        for k in range(1, count + 1):
            put(root / f"{folder}/img{k}.bmp")
    scores = np.where(copies, 0.0, np.linspace(-2.6, 111.7, total))
    savemat(root / "refnames_all.mat", {"refnames_all": cells(names).T})
    savemat(root / "dmos.mat", {"dmos": scores.clip(0, 100)[None], "orgs": copies[None]})
    if realigned:
        savemat(root / "dmos_realigned.mat",
                {"dmos_new": scores[None], "dmos_std": np.full((1, total), 5.0), "orgs": copies[None]})  # fmt: skip
    return copies, names


def biq2021(root, train=15, test=6):
    def name(i):
        return f"ss0{1 + i % 3} ({i}).jpg"

    for i in range(train + test):
        put(root / "Images" / (name(i) if i != 4 else name(i).replace(".jpg", ".JPG")))
    lines = ["Image Name,MOS,,", *(f"{name(i)},{0.05 + 0.04 * i:.4f},," for i in range(train))]
    (root / "Train (Images and MOS).csv").write_text("\r\n".join(lines) + "\r\n")
    lines = ["Image Name,MOS", *(f"{name(i)},{0.9 - 0.01 * i:.4f}" for i in range(train, train + test))]
    (root / "Test (Images and MOS).csv").write_text("\r\n".join(lines) + "\r\n")


def tid2013(root):
    lines = []
    for r in (1, 2):
        for t in range(1, 25):
            for k in range(1, 6):
                put(root / "distorted_images" / f"{'i' if r == 1 else 'I'}{r:02d}_{t:02d}_{k}.bmp")
                lines.append(f"{6 - k:.5f} I{r:02d}_{t:02d}_{k}.bmp")
    (root / "mos_with_names.txt").write_text("\n".join(lines) + "\n")


def spaq(root, n=12):
    names = [f"{i:05d}.jpg" for i in range(1, n + 1)]
    for name in names:
        put(root / "TestImage" / name)
    (root / "Annotations").mkdir()
    columns = {"Image name": names, "MOS": np.linspace(8, 90, n), "Brightness": 50.0, "Colorfulness": 50.0,
               "Contrast": 50.0, "Noisiness": 50.0, "Sharpness": np.linspace(1, 99, n)}  # fmt: skip
    pd.DataFrame(columns).to_excel(root / "Annotations/MOS and Image attribute scores.xlsx", index=False)


def folder(root, n=24):
    for i in range(n):
        put(root / f"pictures/p {i}.png")
    pd.DataFrame({"file": [f"pictures/p {i}.png" for i in range(n)], "dmos": np.linspace(0, 10, n),
                  "scene": [f"s{i // 3}" for i in range(n)], "part": ["a"] * (n - 6) + ["b"] * 6}).to_csv(
        root / "scores.csv", index=False)  # fmt: skip


FOLDER = {"csv": "scores.csv", "image": "file", "score": "dmos", "low": 0, "high": 10, "higher_is_better": False}
FAMILIES = {"kadid10k": (kadid10k, {}), "koniq10k": (koniq10k, {}), "livec": (livec, {}), "csiq": (csiq_sheet, {}),
            "live": (live_release2, {}), "biq2021": (biq2021, {}), "tid2013": (tid2013, {}), "spaq": (spaq, {}),
            "folder": (folder, FOLDER)}  # fmt: skip


@pytest.fixture(scope="module", params=list(FAMILIES))
def each(request, tmp_path_factory):
    make, options = FAMILIES[request.param]
    root = tmp_path_factory.mktemp(request.param)
    make(root)
    return SimpleNamespace(name=request.param, root=root, options=options,
                           dataset=datasets.load(request.param, root, **options))  # fmt: skip


def test_every_family_gives_the_common_table(each):
    table = each.dataset.table
    assert set(FAMILIES) == set(datasets.NAMES)
    assert not {"id", "image", "reference", "group", "subset", "type", "type_id", "level", "score", "spread", "quality",
                "split"} - set(table)  # fmt: skip
    assert all(os.path.isfile(path) for path in table["image"]) and table["id"].is_unique
    assert table["quality"].between(0, 1).all() and table["score"].notna().all()
    assert images.read(table["image"].iloc[-1]).shape == (3, 8, 12)
    sign = 1 if each.dataset.scale.higher_is_better else -1
    assert (table["quality"].rank() - (sign * table["score"]).rank()).abs().max() <= len(table) / 4
    assert np.corrcoef(table["quality"], sign * table["score"])[0, 1] > 0.99
    within = ~each.dataset.scale.far_outside(table["score"]) & table["quality"].between(0.001, 0.999)
    assert np.allclose(each.dataset.scale.raw(table["quality"][within]), table["score"][within])


def test_nothing_crosses_a_split(each):
    units = each.dataset.units()
    for which in datasets.STORED:
        part = datasets.split(each.dataset, which)
        sides = [set(units[rows]) for rows in (part.train, part.validation, part.test)]
        assert sides[0] and sides[2] and (sides[1] or len(set(units)) < 3)
        assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
        rows = np.concatenate([part.train, part.validation, part.test])
        assert sorted(rows) == list(range(len(each.dataset)))
        again = datasets.split(each.dataset, str(which))
        assert all((getattr(part, side) == getattr(again, side)).all() for side in ("train", "validation", "test"))
        assert not len(datasets.split(each.dataset, which, validation=0).validation)


def test_the_units_of_splits(each):
    expected = {"kadid10k": 3, "csiq": 2, "live": 29, "tid2013": 2}
    if each.name in expected:
        assert each.dataset.unit == "reference" and len(set(each.dataset.units())) == expected[each.name]
    else:
        assert each.dataset.unit == "image" and len(set(each.dataset.units())) == len(each.dataset)


def test_check_passes_and_says_what_differs(each):
    report = datasets.check(each.name, each.root, **each.options)
    assert report.ok, report.text
    if each.name not in ("live", "folder"):
        assert "records, expected" in report.text and not report.complete
    assert "split 0" in report.text and "12 x 8" in report.text and len(report.text.splitlines()) < 30


def test_kadid_names_and_scale(tmp_path):
    kadid10k(tmp_path, 2)
    table = datasets.load("kadid10k", tmp_path).table
    row = table[table["id"] == "images/I02_10_03.png"].iloc[0]
    assert (row["reference"], row["type"], row["type_id"], row["level"]) == ("I02", "jpeg", 10, 3)
    assert row["score"] == 3.38 and np.isclose(row["quality"], (3.38 - 1) / 4) and np.isclose(row["spread"], 0.9)


def test_koniq_has_two_scales(tmp_path):
    koniq10k(tmp_path, sets=False)
    grades = datasets.load("koniq10k", tmp_path)
    assert (grades.scale.low, grades.scale.high) == (1, 5) and grades.table["split"].eq("").all()
    assert np.isclose(grades.table["quality"].iloc[0], 0.05)
    with pytest.raises(DatasetError, match="no official split"):
        datasets.split(grades, "official")
    zscores = datasets.load("koniq10k", tmp_path, score="MOS_zscore")
    assert (zscores.scale.low, zscores.scale.high) == (0, 100)
    koniq10k(tmp_path, scores=False)
    percent = datasets.load("koniq10k", tmp_path)
    assert (percent.scale.low, percent.scale.high) == (0, 100) and np.isclose(percent.table["spread"].iloc[0], 12.5)
    part = datasets.split(percent, "official")
    assert (len(part.train), len(part.validation), len(part.test)) == (14, 2, 4)
    os.rename(tmp_path / "1024x768", tmp_path / "512x384")
    assert "512x384" in datasets.load("koniq10k", tmp_path).table["image"].iloc[0]
    with pytest.raises(DatasetError, match="no folder 1024x768"):
        datasets.load("koniq10k", tmp_path, size="1024x768")


def test_livec_drops_the_seven_training_pictures(tmp_path):
    livec(tmp_path)
    dataset = datasets.load("livec", tmp_path)
    assert len(dataset) == 12 and dataset.table["id"].iloc[0] == "Images/3.JPG"
    assert np.isclose(dataset.table["score"].iloc[0], np.linspace(3, 92, 19)[7])
    assert not dataset.table["id"].str.contains("/t").any()


def test_csiq_sheet_and_text_agree(tmp_path):
    (tmp_path / "sheet").mkdir()
    csiq_sheet(tmp_path / "sheet")
    (tmp_path / "text").mkdir()
    csiq_text(tmp_path / "text")
    sheet, text = (datasets.load("csiq", tmp_path / kind).table.set_index("id") for kind in ("sheet", "text"))
    assert len(sheet) == 48 and set(sheet["reference"]) == {"1600", "sunset_sparrow"}
    assert np.allclose(text.loc[sheet.index, "score"], sheet["score"])
    row = sheet.loc["dst_imgs/jpeg2000/1600.jpeg2000.2.png"]
    assert (row["type"], row["type_id"], row["level"]) == ("jpeg2000", 9, 2) and np.isclose(row["quality"], 0.7)


def test_live_drops_the_undistorted_copies_and_keeps_the_order(tmp_path):
    copies, names = live_release2(tmp_path)
    table = datasets.load("live", tmp_path).table
    assert len(table) == int((copies == 0).sum()) and set(table["type"]) == set(live.COUNTS)
    first_of_noise = live.COUNTS["jp2k"] + live.COUNTS["jpeg"]
    k = int(np.flatnonzero(copies[first_of_noise:] == 0)[0])
    row = table[table["type"] == "wn"].iloc[0]
    assert row["id"] == f"wn/img{k + 1}.bmp" and row["reference"] == names[first_of_noise + k][:-4]
    assert np.isclose(row["score"], np.linspace(-2.6, 111.7, 982)[first_of_noise + k])
    assert table["score"].max() > 100 and table["quality"].min() == 0
    (tmp_path / "dmos_realigned.mat").unlink()
    assert datasets.load("live", tmp_path).table["score"].max() <= 100


def test_biq2021_with_trailing_commas_and_another_case(tmp_path):
    biq2021(tmp_path)
    dataset = datasets.load("biq2021", tmp_path)
    assert len(dataset) == 21 and dataset.table["image"].iloc[4].endswith("ss02 (4).JPG")
    assert dataset.table["id"].iloc[4].endswith("ss02 (4).jpg") and set(dataset.table["subset"]) == {
        "ss01",
        "ss02",
        "ss03",
    }
    part = datasets.split(dataset, "official")
    assert len(part.test) == 6 and len(part.train) + len(part.validation) == 15


def test_folder_with_named_columns_groups_and_parts(tmp_path):
    folder(tmp_path)
    dataset = datasets.load("folder", tmp_path, **FOLDER, group="scene", split="part", train="a", test="b")
    assert dataset.unit == "group" and dataset.table["quality"].iloc[0] == 1
    assert len(datasets.split(dataset, "official").test) == 6
    with pytest.raises(DatasetError, match="range"):
        datasets.load("folder", tmp_path, csv="scores.csv")
    chosen = SimpleNamespace(dataset="folder", dataset_path=str(tmp_path), csv="scores.csv", csv_image="file",
                             csv_score="dmos", csv_reference="", csv_group="scene", csv_subset="", csv_split="",
                             score_low=0.0, score_high=10.0, score_rises=False)  # fmt: skip
    same = datasets.from_parameters(chosen).table
    assert same.drop(columns="split").equals(dataset.table.drop(columns="split")) and same["split"].eq("").all()
    with pytest.raises(DatasetError, match="no column mos; it has file, dmos, scene, part"):
        datasets.load("folder", tmp_path, **{**FOLDER, "score": "mos"})
    with pytest.raises(DatasetError, match=r"no option 'grup'.*did you mean 'group'"):
        datasets.load("folder", tmp_path, **FOLDER, grup="scene")
    table = pd.read_csv(tmp_path / "scores.csv")
    table.loc[17, "part"] = "b"  # its scene s5 is in the training part too
    table.to_csv(tmp_path / "scores.csv", index=False)
    crossing = datasets.load("folder", tmp_path, **FOLDER, group="scene", split="part", train="a", test="b")
    with pytest.raises(DatasetError, match="1 groups are in both"):
        datasets.split(crossing, "official")


def test_a_folder_may_be_given_relative_to_here(tmp_path, monkeypatch):
    folder(tmp_path / "ds")
    monkeypatch.chdir(tmp_path)
    dataset = datasets.load("folder", "ds", **FOLDER)
    assert dataset.root == tmp_path / "ds" and len(Pictures.read(dataset, [0, 1])) == 2


def table_of(root, header, *rows):
    for name in ("a.png", "b.png"):
        put(root / name)
    (root / "scores.csv").write_text("\n".join([header, *rows]) + "\n")


def test_a_column_given_twice_is_refused(tmp_path):
    table_of(tmp_path, "image,score,score ", "a.png,1,2", "b.png,2,3")
    with pytest.raises(DatasetError, match=r"scores.csv has more than one column score"):
        datasets.load("folder", tmp_path, low=0, high=10)


def test_a_level_that_is_no_number_is_none(tmp_path):
    table_of(tmp_path, "image,score,level", "a.png,1,inf", "b.png,2,3")
    assert datasets.load("folder", tmp_path, low=0, high=10).table["level"].tolist() == [0, 3]


@pytest.mark.parametrize("twin", ["./a.png", "in/../a.png", "A.png"])
def test_one_file_under_two_names_is_listed_twice(tmp_path, twin):
    (tmp_path / "in").mkdir()
    table_of(tmp_path, "image,score", "a.png,1", "b.png,2", f"{twin},3")
    with pytest.raises(DatasetError, match=f"1 images are listed twice in scores.csv, the first is {re.escape(twin)}"):
        datasets.load("folder", tmp_path, low=0, high=10)


@pytest.mark.parametrize(
    ("n", "train", "test"), [(1162, 930, 232), (10073, 8058, 2015), (29, 23, 6), (30, 24, 6), (81, 65, 16)]
)
def test_the_sizes_of_stored_splits(n, train, test):
    part = datasets.split(records(n), 0, validation=0)
    assert (len(part.train), len(part.test)) == (train, test)


def records(n):
    table = pd.DataFrame({"id": [f"{i:05d}.png" for i in range(n)], "reference": "", "split": ""})
    return datasets.Dataset("koniq10k", None, table, datasets.Scale(0, 1), "image")


def test_stored_splits_never_change():
    text = "".join(f"{which}:{datasets.split(records(200), which).test.tolist()}" for which in datasets.STORED)
    assert sha256(text.encode()).hexdigest()[:16] == "3ed00cd530fb101c"
    tests = [frozenset(datasets.split(records(200), which).test) for which in datasets.STORED]
    assert len(set(tests)) == 10 and len(frozenset.union(*tests)) > 150


def test_splits_refuse_what_they_do_not_know():
    with pytest.raises(DatasetError, match="expected 0 to 9 or official"):
        datasets.split(records(20), 10)
    with pytest.raises(DatasetError, match="validation = 1.5"):
        datasets.split(records(20), 0, validation=1.5)
    with pytest.raises(DatasetError, match="at least two"):
        datasets.split(records(1), 0)
    with pytest.raises(DatasetError, match=r"no data set 'koniq'; did you mean 'koniq10k'"):
        datasets.load("koniq", "/")


def broken(kind, root):
    table = root / "dmos.csv"
    if kind == "folder":
        os.rename(root / "images", root / "pictures")
    elif kind == "file":
        table.unlink()
    elif kind == "column":
        table.write_text(table.read_text().replace("dmos,var", "score,var"))
    elif kind == "image":
        (root / "images/I01_03_02.png").unlink()
    elif kind == "unreadable":
        (root / "images/I01_03_02.png").write_bytes(PNG[:50])
    elif kind == "empty":
        (root / "images/I01_03_02.png").write_bytes(b"")
    elif kind == "range":
        table.write_text(table.read_text().replace("I01_03_02.png,I01.png,4.19", "I01_03_02.png,I01.png,41.9"))
    elif kind == "number":
        table.write_text(table.read_text().replace("I01_03_02.png,I01.png,4.19", "I01_03_02.png,I01.png,n/a?"))
    elif kind == "type":
        table.write_text(table.read_text().replace("I01_03_02.png,I01.png", "I01_33_02.png,I01.png"))


@pytest.mark.parametrize(("kind", "message"), [
    ("folder", "no folder images"), ("file", "no file dmos.csv"),
    ("column", "dmos.csv has no column dmos; it has dist_img, ref_img, score, var"),
    ("image", "1 of 125 images are missing or empty, the first is images/I01_03_02.png"),
    ("empty", "1 of 125 images are missing or empty, the first is images/I01_03_02.png"),
    ("unreadable", r"1 of 125 images are damaged: .*I01_03_02.png"),
    ("range", "1 of 125 scores in dmos.csv lie outside 1 to 5, the first is 41.9 of images/I01_03_02.png"),
    ("number", "1 of 125 scores in dmos.csv are not numbers, the first is that of images/I01_03_02.png"),
    ("type", "type 33, expected 1 to 25"),
])  # fmt: skip
def test_what_is_wrong_is_named_with_what_was_expected(tmp_path, capsys, kind, message):
    kadid10k(tmp_path, 1)
    broken(kind, tmp_path)
    assert cli.main(["data", "check", "kadid10k", str(tmp_path)]) == 2
    page = capsys.readouterr()
    assert re.search(message, page.out + page.err), page.out + page.err
    if kind != "unreadable":
        with pytest.raises(DatasetError, match=message):
            datasets.load("kadid10k", tmp_path)


def test_missing_images_can_be_dropped_or_kept_by_name(tmp_path):
    kadid10k(tmp_path, 1)
    broken("image", tmp_path)
    assert len(datasets.load("kadid10k", tmp_path, missing="drop")) == 124
    assert len(datasets.load("kadid10k", tmp_path, missing="keep")) == 125


def test_the_command_says_complete_and_exits_0(tmp_path, capsys):
    folder(tmp_path)
    command = ["data", "check", "folder", str(tmp_path), "--image", "file", "--score", "dmos"]
    command += ["--low", "0", "--high", "10", "--lower-is-better"]
    assert cli.main(command) == 0
    page = capsys.readouterr().out
    assert "It is complete." in page and "lower is better" in page
    assert cli.main(["data", "check", "koniq10k", str(tmp_path / "nowhere")]) == 2


def git(root, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def origin(tmp_path):
    root = tmp_path / "origin"
    root.mkdir()
    biq2021(root)
    (root / "FineTuning.m").write_text("not needed")
    git(root, "init", "-q")
    git(root, "config", "uploadpack.allowFilter", "true")
    git(root, "config", "uploadpack.allowAnySHA1InWant", "true")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "all")
    return f"file://{root}"


COUNTS = {"train": 15, "test": 6}


def test_get_fetches_verifies_and_repeats(tmp_path, origin):
    seen = []
    text = get("biq2021", tmp_path / "copy", True, origin, lambda done, total: seen.append((done, total)), COUNTS)
    assert "15 train, 6 test images, all intact" in text and seen == [(0, 23), (23, 23)]
    assert len(datasets.load("biq2021", tmp_path / "copy")) == 21 and not (tmp_path / "copy/FineTuning.m").exists()
    seen.clear()
    get("biq2021", tmp_path / "copy", True, origin, lambda done, total: seen.append((done, total)), COUNTS)
    assert seen == [(23, 23)]


def test_get_continues_after_a_break_and_mends_damaged_files(tmp_path, origin, monkeypatch):
    from gmiqa.data.datasets import download

    monkeypatch.setattr(download, "BATCH", 5)

    def stop(done, total):
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get("biq2021", tmp_path / "copy", True, origin, stop, COUNTS)
    there = sorted((tmp_path / "copy/Images").iterdir())
    assert 0 < len(there) < 21
    there[0].write_bytes(b"half a pic")
    seen = []
    get("biq2021", tmp_path / "copy", True, origin, lambda done, total: seen.append(done), COUNTS)
    assert seen[0] == 9 and seen[-1] == 23 and there[0].read_bytes() == JPG


def test_the_command_fetches_and_can_be_stopped(tmp_path, origin, monkeypatch, capsys):
    from gmiqa.data.datasets import biq2021 as family
    from gmiqa.data.datasets import download

    monkeypatch.setattr(family, "COUNTS", COUNTS)
    command = ["data", "get", "biq2021", str(tmp_path / "copy"), "--url", origin]
    with monkeypatch.context() as inner:
        inner.setattr(download, "_fetch", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli.main(command) == 130 and "the same command continues" in capsys.readouterr().out
    assert cli.main(command) == 0 and "15 train, 6 test images" in capsys.readouterr().out


def test_get_is_never_silent_about_what_it_would_do(tmp_path, origin, monkeypatch):
    from gmiqa.data.datasets import download

    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with pytest.raises(DatasetError, match="400 MB .* data get biq2021"):
        get("biq2021", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(DatasetError, match="only biq2021"):
        get("live", tmp_path / "copy", True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="holds other files"):
        get("biq2021", tmp_path / "full", True, origin)
    with pytest.raises(DatasetError, match="expected 10,000 train, 2,000 test"):
        get("biq2021", tmp_path / "copy", True, origin)
    with pytest.raises(DatasetError, match="run the same command to continue"):
        get("biq2021", tmp_path / "other", True, f"file://{tmp_path}/nowhere")
