"""`mdbench reproduce`: files, their form, and the committed page."""

import csv
import json
import re
import xml.etree.ElementTree
from pathlib import Path

import pytest

from mdbench.claims.catalogue import MAIN, NAMES, claims_of
from mdbench.claims.finding import Curve, Panel
from mdbench.claims.reproduction import rule_of
from mdbench.pages.claims import COLUMNS, draw, entries_of, number, render

ROOT = Path(__file__).parents[2]
FORM = {"claim", "statement", "source", "rule", "verdict", "estimate", "interval", "unit", "seeds", "device", "seconds"}


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("claims")
    ran = run("reproduce", "first_order", "--fast", "--out", out, "--json")
    assert ran.code == 0
    return out, ran


def test_every_file_of_the_folder_is_a_claim_that_is_listed(run):
    others = {"__init__", "claim", "finding", "laboratory", "comparing", "catalogue", "reproduction"}
    files = {path.stem for path in (ROOT / "mdbench" / "claims").glob("*.py")} - others
    assert files == set(NAMES)
    listed = json.loads(run("reproduce", "--list", "--json").out)
    assert [entry["claim"] for entry in listed] == list(NAMES)
    assert all(entry["statement"].endswith(".") and entry["rule"].startswith(("holds", "fails")) for entry in listed)
    assert "first_order: " in run("reproduce", "--list").out


def test_the_form_of_what_is_written(written):
    out, ran = written
    (entry,) = json.loads((out / "claims.json").read_text())
    assert set(entry) >= FORM
    assert (entry["claim"], entry["verdict"], entry["seeds"], entry["device"]) == ("first_order", "holds", None, "cpu")
    (printed,) = json.loads(ran.out)
    assert {key: entry[key] for key in FORM} == {key: printed[key] for key in FORM}
    rows = list(csv.DictReader((out / "claims" / "first_order.csv").open()))
    assert {row["alpha"] for row in rows} >= {"0.5", "1.0", "3.0"}
    assert {"kl", "excess_kl", "excess_kl_low"} <= set(rows[0])
    assert xml.etree.ElementTree.parse(out / "claims" / "first_order.svg").getroot().tag.endswith("svg")
    assert (out / "claims" / "first_order.png").read_bytes().startswith(b"\x89PNG")
    assert "**holds**" in (out / "claims.md").read_text()


def test_another_claim_leaves_the_first_and_the_same_one_the_same_figure(run, written):
    out, _ = written
    before = (out / "claims" / "first_order.svg").read_bytes()
    assert run("reproduce", "one_step", "first_order", "--fast", "--out", out).code == 0
    assert [entry["claim"] for entry in json.loads((out / "claims.json").read_text())] == ["one_step", "first_order"]
    assert (out / "claims" / "first_order.svg").read_bytes() == before


def test_what_cannot_be(run, tmp_path):
    ran = run("reproduce", "second_order", "--out", tmp_path / "r")
    assert ran.code == 2
    assert "no claim 'second_order'; did you mean 'first_order'?" in ran.err
    assert not (tmp_path / "r").exists()
    assert "margin must be 0 or more" in run("reproduce", "one_step", "--margin", "-1", "--out", tmp_path / "r").err
    assert not (tmp_path / "r").exists()
    for damaged in ("{}", '[{"claim": "first_order"}]'):
        (tmp_path / "claims.json").write_text(damaged)
        ran = run("reproduce", "one_step", "--fast", "--out", tmp_path)
        assert ran.code == 2
        assert "is no list of claims" in ran.err
        assert (tmp_path / "claims.json").read_text() == damaged


def test_a_rule_says_the_margin_that_it_was_judged_by(run):
    (entry,) = json.loads(run("reproduce", "cross_entropy", "--fast", "--margin", "9", "--json").out)
    assert (entry["verdict"], entry["margin"]) == ("holds", 9.0)
    assert "lies below 10, fails if above" in entry["rule"]


def test_three_seeds_have_a_band_and_a_single_one_says_so():
    curves = [
        Curve("three", [1, 2], [1.0, 2.0], ([0.5, 1.5], [1.5, 2.5]), seeds=3),
        Curve("two", [1, 2], [1.0, 2.0], ([0.5, 1.5], [1.5, 2.5]), seeds=2),
        Curve("one", [1, 2], [1.0, 2.0], seeds=1),
        Curve("known", [1, 2], [1.0, 2.0]),
    ]
    panels = [Panel("", "x", "y", curves)]
    figure = draw(panels)
    (ax,), (legend,) = figure.axes, figure.legends
    assert len(ax.collections) == 1
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["three", "two", "one (one seed)", "known"]
    assert [line.get_linewidth() < 1 for line in ax.lines] == [False, True, True, False]


def test_the_committed_page_is_that_of_the_committed_verdicts():
    """docs/claims.md and docs/claims.json are made by `mdbench reproduce --out docs`."""
    entries = entries_of(ROOT / "docs")
    assert [entry["claim"] for entry in entries] == list(NAMES)
    assert (ROOT / "docs" / "claims.md").read_text(encoding="utf-8") == render(entries)
    known = claims_of()
    for entry in entries:
        claim = known[entry["claim"]]
        assert (entry["statement"], entry["source"], entry["rule"]) == (claim.statement, claim.source, rule_of(claim))
        assert not entry["fast"]
        assert all((ROOT / "docs" / "claims" / f"{entry['claim']}.{kind}").is_file() for kind in ("svg", "csv"))


def test_the_readme_says_what_the_verdicts_are():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    entries = {entry["claim"]: entry for entry in entries_of(ROOT / "docs")}
    rows = [line.split(" | ") for line in readme.splitlines() if line.startswith("| [")]
    named = {name: row for row in rows for name in entries if f"claims.md#{name})" in row[0]}
    assert len(named) >= 5
    for name, row in named.items():
        assert row[1] == entries[name]["verdict"]
        assert row[2].removesuffix(" |") == number(entries[name])
    assert f"docs/claims/{MAIN}." in readme
    verdicts = [entry["verdict"] for entry in entries.values()]
    holds, fails, undecided = (verdicts.count(verdict) for verdict in ("holds", "fails", "undecided"))
    said = f"[All {len(entries)} claims](docs/claims.md) ({holds} hold, {fails} fail, {undecided} undecided)"
    assert said in " ".join(readme.split())


def test_every_column_of_the_committed_numbers_is_explained():
    said = set(re.findall(r"\w+", " ".join([*COLUMNS, *COLUMNS.values()])))
    endings = re.compile(r"_(low|high|untouched)$|^tau_")
    for path in (ROOT / "docs" / "claims").glob("*.csv"):
        columns = path.read_text(encoding="utf-8").splitlines()[0].split(",")
        assert {endings.sub("", column) for column in columns} <= said, path.name
