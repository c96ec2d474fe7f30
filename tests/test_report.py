"""report.html: one page without a network, whose sentences come from the run's own numbers."""

from __future__ import annotations

import html
import re
from pathlib import Path

import matplotlib
import pandas as pd
import pytest

from gmiqa.figures import style
from gmiqa.report import executed as pages
from gmiqa.report import findings
from gmiqa.report.page import build
from gmiqa.runs import provenance
from gmiqa.runs.saved_table import number, save_table
from gmiqa.runs.stage import Stage
from gmiqa.settings import load

matplotlib.use("Agg")
ROOT = Path(__file__).parents[1]
EVALUATE, GRAPH, META, EMBED = "50_evaluation", "30_distortion_graphs", "20_meta_pretraining", "70_embeddings"


def finished(run: Path, name: str, figures: int = 1, claims: tuple[str, ...] = ()) -> None:
    """A stage with made-up results, as a notebook would have left it."""
    import matplotlib.pyplot as plt
    stage = Stage(name, load(overrides={"run": str(run)}, stage=name), {"key": "k"})
    provenance.begin(stage.folder, "k")
    for k in range(figures):
        with style():
            figure, axes = plt.subplots(figsize=(5, 3))
            axes.plot([1, 3, 2])
            axes.set(title="Level against quality", xlabel="level", ylabel="quality")
        stage.figure(figure, f"curve_{k}", f"Quality falls with the level, figure {k}", alt="A falling curve")
    stage.table(pd.DataFrame({"method": ["ours <b>", "mean"], "srocc": [0.8123456, None]}), "table", "SROCC of methods")
    stage.number("srocc", 0.8123, n=240, low=0.76, high=0.85, text=f"Rank correlation with human scores in {name[:2]}")
    for outcome in claims:
        stage.claim(f"A claim that {outcome}", source="paper", value=0.5, outcome=outcome, n=3, evidence="curve_0")
    assert all(stage.p[name] is not None for name in stage.p)  # as a notebook does that uses what it declares
    stage.close()
    record = provenance.read_json(stage.folder / "stage.json")
    provenance.write_json(stage.folder / "run.json", record)


pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    run = tmp_path_factory.mktemp("outputs") / "demo"
    finished(run, EVALUATE, figures=2, claims=("holds", "does not hold", "undecided"))
    finished(run, GRAPH)
    finished(run, META, claims=("not run here",))
    return build(run).read_text(encoding="utf-8")


def test_the_page_asks_no_network_for_anything(report):
    assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"', report)
    assert not re.findall(r"url\(['\"]?(?!data:)", report) and "@import" not in report


def test_the_first_screen_has_one_sentence_one_picture_and_three_numbers_with_their_n(report):
    top = report[report.index("<header"):report.index("</header>")]
    assert len(re.findall("<h1", top)) == 1 and len(re.findall("<img", top)) == 1
    assert len(re.findall('class="value"', top)) == 3 and top.count("n = 240") >= 3


def test_the_sentence_says_what_was_found_and_what_was_not(report):
    text = re.search("<h1>(.*?)</h1>", report)[1]
    assert "Rank correlation with human scores in 50 0.812 [0.760 to 0.850] (n = 240)" in text
    assert "of 4 claims 1 holds, 1 does not, 1 is undecided at this size and 1 was not run here" in text
    assert "6 of 9 stages have no result" in text


def test_a_missing_stage_is_said_to_be_missing_and_how_to_run_it(report):
    part = report[report.index('<section id="70_embeddings"'):]
    part = part[:part.index("</section>")]
    assert "No result in this run" in part and "--only 70" in part


def test_every_figure_has_words_for_who_cannot_see_it_and_every_text_is_escaped(report):
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall("<img[^>]*>", report))
    assert "ours &lt;b&gt;" in report and "ours <b>" not in report


def test_evidence_of_a_claim_leads_to_its_figure(report):
    assert 'href="#50_evaluation-curve_0"' in report and 'id="50_evaluation-curve_0"' in report


def test_an_empty_run_gives_a_page_that_says_so(tmp_path):
    text = build(tmp_path / "empty").read_text(encoding="utf-8")
    assert "9 of 9 stages have no result" in text


def test_counted_uses_the_words_of_one_and_of_many():
    assert findings.counted(["holds"]) == "1 holds"
    assert findings.counted(["holds", "holds", "does not hold"]) == "2 hold and 1 does not"


@pytest.mark.parametrize("value, text", [(0.81234, "0.812"), (12, "12"), (10125, "10\u2009125"), (None, ""),
                                         (float("nan"), ""), (0.0000123, "1.2e\u221205"), (0, "0"), (15.32, "15.3"),
                                         (-0.284, "\u22120.284"),
                                         ("0.2 s", "0.2 s"), (1.0, "1.000")])
def test_numbers_are_short_and_right(value, text):
    assert number(value) == text


def test_an_executed_notebook_becomes_a_page_with_its_title(tmp_path):
    import nbformat
    output = nbformat.v4.new_output("stream", text="one\n")
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# A title\n\n**Question.** Does it *work*?"),
        nbformat.v4.new_code_cell("print(1)", outputs=[output])])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    assert pages.first_words(tmp_path / "a.ipynb") == ("A title", "Does it work?")
    text = pages.notebook_page(tmp_path / "a.ipynb", tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<title>A title</title>" in text and "one" in text and "//" not in re.sub(r"data:\S+", "", text[:300])


def test_a_page_shows_the_parameters_once_as_the_first_cell_prints_them(tmp_path):
    import nbformat

    def cell(source: str, *tags: str, printed: str = "") -> nbformat.NotebookNode:
        outputs = [nbformat.v4.new_output("stream", text=printed)] if printed else []
        return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)}, outputs=outputs)

    nbformat.write(nbformat.v4.new_notebook(cells=[
        cell("level: int = 3  # declared", "parameters"), cell("# Parameters\nlevel = 4", "injected-parameters"),
        cell("stage = open_stage(NAME)", "other", printed="  level  4  -p\n")]), tmp_path / "a.ipynb")
    text = pages.notebook_page(tmp_path / "a.ipynb", tmp_path / "a.html").read_text(encoding="utf-8")
    assert "level  4  -p" in text and "declared" not in text and "# Parameters" not in text and text.count("level") == 1


def test_of_progress_a_page_keeps_the_end():
    import nbformat
    lines = ("… maml 9/60 (15 %), 6 s so far, 36 s left\n", "maml  step 10/60  loss 3\n", "kept\n",
             "maml  step 60/60  loss 1\n", "… maml 60/60 (100 %), took 19 s\n")
    outputs = [nbformat.v4.new_output("stream", text=line) for line in lines]
    calm = pages.calm(outputs)
    assert [output.text for output in calm] == ["kept\nmaml  step 60/60  loss 1\n… maml 60/60 (100 %), took 19 s\n"]
    assert pages.calm([nbformat.v4.new_output("stream", text=lines[0])]) == []


def test_a_table_in_a_notebook_has_one_row_of_headings(tmp_path):
    frame = pd.DataFrame({"share": [0.123456, 72.5921], "n": [5, 12345]}, index=pd.Index(["a", "b"], name="picture"))
    (path,), _, shown = save_table(frame, tmp_path, "t", "A table")
    text = shown.to_html()
    assert path.read_text().splitlines()[0] == "picture,share,n" and text.split("</thead>")[0].count("<tr>") == 1
    assert re.findall(r'class="data[^>]*>([^<]*)<', text) == ["0.123", "5", "72.6", "12\u2009345"]


def test_every_formula_of_the_notebooks_can_be_set_without_a_network():
    import nbformat

    from gmiqa.report import formulas
    texts = [cell.source for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
             for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]
    tex = {formula for text in texts for formula in formulas.FORMULA.findall(formulas.CODE.sub("", text))}
    assert len(tex) > 20 and [t for t in sorted(tex) if not formulas.picture(t).startswith("<img")] == []
    assert formulas.picture(r"\nosuch{") == r"<code>\nosuch{</code>"


def test_a_page_shows_formulas_as_pictures_and_leaves_code_alone(tmp_path):
    import nbformat
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# A\n\n| a | b |\n|---|---|\n| $x_i | y$ | `$HOME$` |\n\nCosts $a_b*c*d$."),
        nbformat.v4.new_code_cell("print('$not$')", outputs=[
            nbformat.v4.new_output("display_data", {"text/markdown": r"about $\sigma$"})])])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    text = pages.notebook_page(tmp_path / "a.ipynb", tmp_path / "a.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<img[^>]*class="formula"[^>]*src="data:image/svg\+xml;base64,', text)) == 3
    assert 'alt="a_b*c*d"' in html.unescape(text) and "$HOME$" in text and "$not$" in text and "http" not in text


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """A run of two stages with executed notebooks, as the gallery sees it."""
    import nbformat

    from gmiqa.report import gallery
    run = tmp_path / "run"
    for name in (META, GRAPH):
        finished(run, name)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# About {name}")])
        nbformat.write(notebook, run / name / f"{name}.ipynb")
    build(run)
    monkeypatch.setattr(gallery, "collect", lambda run: [part for part in findings.collect(run) if part.record])
    return run


def test_the_gallery_holds_a_page_and_a_picture_of_every_notebook_and_nothing_dead(shown, tmp_path):
    from gmiqa.report import gallery
    size, count = gallery.make(shown, tmp_path / "gallery")
    files = {path.name for path in (tmp_path / "gallery").iterdir()}
    assert count == 2 and size < gallery.LIMIT
    assert files == {"index.html", "report.html", *(f"{n}.{kind}" for n in (META, GRAPH) for kind in ("html", "webp"))}
    for page in ("index.html", "report.html"):
        text = (tmp_path / "gallery" / page).read_text(encoding="utf-8")
        linked = {link for link in re.findall(r'(?:href|src)="([^"#:]+)"', text)}
        assert linked and linked <= files, f"{page}: {linked - files}"
        assert not re.search(r'<div class="sheet">\s*</div>', text), f"{page} has an empty frame"


def test_a_new_gallery_keeps_what_the_study_found(shown, tmp_path):
    from gmiqa.report import gallery
    (tmp_path / "gallery").mkdir()
    for name in ("findings.csv", "findings.html"):
        (tmp_path / "gallery" / name).write_text(name, encoding="utf-8")
    gallery.make(shown, tmp_path / "gallery")
    for name in ("findings.csv", "findings.html"):
        assert (tmp_path / "gallery" / name).read_text(encoding="utf-8") == name
    assert 'href="findings.html"' in (tmp_path / "gallery/index.html").read_text(encoding="utf-8")


def test_the_gallery_shows_embedded_pictures_only_and_finished_stages_only(shown, tmp_path):
    from gmiqa.report import gallery
    from gmiqa_core.errors import UserError
    place = shown / META / "run.json"
    record = provenance.read_json(place)
    provenance.write_json(place, record | {"parameters": {"data": {"value": "holiday", "source": "-p"}}})
    with pytest.raises(UserError, match="data=holiday; the gallery shows embedded pictures only"):
        gallery.make(shown, tmp_path / "gallery")
    (shown / META / f"{META}.ipynb").unlink()
    with pytest.raises(UserError, match="is not finished"):
        gallery.make(shown, tmp_path / "gallery")
    assert not (tmp_path / "gallery").exists()


def claimed(run: Path, *entries: dict) -> Path:
    """A finished stage with these claims."""
    stage = Stage(EVALUATE, load(overrides={"run": str(run)}, stage=EVALUATE), {"key": "k"})
    provenance.begin(stage.folder, "k")
    for k, entry in enumerate(entries):
        stage.claim(**{"claim": f"Claim {k}", "source": "ours"} | entry)
    assert all(stage.p[name] is not None for name in stage.p)  # as a notebook does that uses what it declares
    stage.close()
    provenance.write_json(stage.folder / "run.json", provenance.read_json(stage.folder / "stage.json"))
    return run


def rows_of_claims(run: Path) -> list[str]:
    text = build(run).read_text(encoding="utf-8")
    table = text[text.index('<table class="claims">'):]
    return [re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", row)).strip()
            for row in re.findall("<tr>(.*?)</tr>", table[:table.index("</table>")])]


def test_a_claim_shows_its_interval_margin_and_what_was_counted(tmp_path):
    run = claimed(tmp_path / "run", {"value": "SROCC +0.003", "outcome": "no difference", "margin": 0.02, "n": 24,
                                     "unit": "contents", "runs": 8, "p": 0.01, "low": -0.01, "high": 0.016}, {})
    head, row, other = rows_of_claims(run)
    assert "margin" in head and "the study" not in head
    assert "= no difference SROCC +0.003 [\u22120.010 to 0.016] 0.020 24 contents, 8 runs project" in row
    assert "– not run here" in other
    frame = findings.claims(findings.collect(run))
    assert str(frame["n"][0]) == "24" and frame["n"].dtype == "Int64"
    shown = findings.brief(frame)
    assert list(shown) == ["claim", "source", "outcome", "found here"] and shown["found here"][1] == ""
    assert shown["found here"][0] == "SROCC +0.003 [\u22120.010 to 0.016], margin 0.020, n = 24 contents, 8 runs"


def test_a_family_is_corrected_together_and_the_sentence_counts_what_is_left(tmp_path):
    one = {"outcome": "holds", "family": "parts", "n": 5}
    run = claimed(tmp_path / "run", one | {"p": 0.001}, one | {"p": 0.04}, one | {"p": 0.03, "family": "alone"})
    _, *rows = rows_of_claims(run)
    assert "✓ holds" in rows[0] and "✓ holds" in rows[2]
    frame = findings.claims(findings.collect(run))
    assert list(frame.outcome) == ["holds"] * 3  # 0.04 is the larger of two
    run = claimed(tmp_path / "more", one | {"p": 0.001}, one | {"p": 0.04}, one | {"p": 0.03})
    _, *rows = rows_of_claims(run)
    assert "~ undecided holds alone; p = 0.06 among 3 claims" in rows[1]
    assert "f 3 claims 1 holds and 2 are undecided" in findings.sentence(findings.collect(run))


def test_what_the_study_says_stands_beside_the_runs_own_result(tmp_path):
    run = claimed(tmp_path / "run", {"claim": "Edges help the score", "outcome": "undecided"}, {})
    study = tmp_path / "findings.csv"
    study.write_text("claim,metric,value,low,high,low_90,high_90,margin,n,unit,runs,outcome,command\n"
                     "edges help  the score.,SROCC,0.012,-0.002,0.026,0.0,0.02,0.02,24,contents,8,undecided,gmiqa run\n"
                     "Edges help the score,RMSE,0.012,-0.002,0.026,0,0.019,0.02,9,contents,8,no difference,gmiqa run\n"
                     "Edges help the score,PLCC,0.03,,,,,,24,contents,,holds,gmiqa run\n", encoding="utf-8")
    frame = findings.claims(findings.collect(run), study)
    assert list(frame["study"]) == [
        "undecided: SROCC 0.012 [\u22120.002 to 0.026], margin 0.020, n = 24 contents, 8 runs; "
        "no difference: RMSE 0.012 [0 to 0.019], margin 0.020, n = 9 contents, 8 runs (90 % interval); "
        "holds: PLCC 0.030, n = 24 contents", ""]
    assert findings.studied(tmp_path / "none.csv") is None


def test_no_difference_needs_a_margin_and_a_claim_made_twice_stands_once(tmp_path):
    from gmiqa_core.errors import UserError
    with pytest.raises(UserError, match="margin"):
        claimed(tmp_path / "run", {"outcome": "no difference"})
    run = claimed(tmp_path / "twice", {"claim": "It holds", "outcome": "undecided"}, {"claim": "It holds", "n": 3})
    assert list(findings.claims(findings.collect(run)).outcome) == ["not run here"]
