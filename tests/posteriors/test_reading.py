"""A person's own files and objects: every form of the same data is the same, and what is none says what would do."""

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import mdbench
from mdbench.core.errors import InputError
from mdbench.posteriors.reading import GAP, as_sequences, as_transition, read_sequences, read_transition
from mdbench.tasks.task import check_transition

PI = np.array([[0.75, 0.25], [0.35, 0.65]])
FIRST, SECOND = [0, 1, 1, 0, 1, 1, 0], [1, 1, 0, 0, 1]

MATRICES = {  # all are PI
    "plain": "0.75,0.25\n0.35,0.65\n",
    "blank lines, carriage returns, a byte order mark": "\ufeff0.75, 0.25\r\n\r\n0.35 ,.65\r\n",
    "old Macintosh": "0.75,0.25\r0.35,0.65\r",
    "header": "A,B\n0.75,0.25\n0.35,0.65\n",
    "R's write.csv": '"","A","B"\n"A",0.75,0.25\n"B",0.35,0.65\n',
    "R's write.table": '"A" "B"\n"A" 0.75 0.25\n"B" 0.35 0.65\n',
    "row names alone": "A,0.75,0.25\nB,0.35,0.65\n",
    "columns in another order": ",B,A\nA,0.25,0.75\nB,0.65,0.35\n",
    "pandas' to_csv": ",0,1\n0,0.75,0.25\n1,0.35,0.65\n",
    "numbered header": "0,1\n0.75,0.25\n0.35,0.65\n",
    "numbered rows": "1,0.75,0.25\n2,0.35,0.65\n",
    "semicolons": "0.75;0.25\n0.35;0.65\n",
    "decimal commas": "0,75;0,25\n0,35;0,65\n",
    "tabs": "0.75\t0.25\n0.35\t0.65\n",
    "tabs and decimal commas": "0,75\t0,25\n0,35\t0,65\n",
    "blanks": "  0.75   0.25\n0.35 0.65  \n",
    "quotes": '"0.75","0.25"\n"0.35","0.65"\n',
    "separators at the end": "0.75,0.25,\n0.35,0.65,\n",
    "comments": "# my matrix\n0.75,0.25  # first\n0.35,0.65\n# end\n",
    "fractions": "3/4,1/4\n7/20,13/20\n",
    "percentages": "75%,25%\n35 %,65 %\n",
    "R's print": "     [,1] [,2]\n[1,] 0.75 0.25\n[2,] 0.35 0.65\n",
    "R's write.csv without names": '"","V1","V2"\n"1",0.75,0.25\n"2",0.35,0.65\n',
    "JSON": "[[0.75, 0.25], [0.35, 0.65]]\n",
    "numpy's print": "[[0.75 0.25]\n [0.35 0.65]]\n",
    "Excel's separator": "sep=;\n0,75;0,25\n0,35;0,65\n",
    "decimal commas between blanks": "0,75 0,25\n0,35 0,65\n",
    "exponents": "7.5e-1,2.5E-1\n+.35,6.5e-01\n",
}
OFF = {"counts": "75,25\n35,65\n", "rounded": "0.750,0.251\n0.35,0.65\n"}

SEQUENCES = {  # all are FIRST and SECOND
    "plain": "0,1,1,0,1,1,0\n1,1,0,0,1\n",
    "counted from 1": "1,2,2,1,2,2,1\n2,2,1,1,2\n",
    "semicolons": "0;1;1;0;1;1;0\n1;1;0;0;1\n",
    "tabs": "0\t1\t1\t0\t1\t1\t0\n1\t1\t0\t0\t1\n",
    "blanks": "0 1 1  0 1 1 0\n1 1 0 0 1\n",
    "quotes": '"0","1","1","0","1","1","0"\n"1","1","0","0","1"\n',
    "wholes as pandas writes them after a gap": "0.0,1.0,1.0,0.0,1.0,1.0,0.0\n1.0,1.0,0.0,0.0,1.0,,\n",
    "padding by NA": "0,1,1,0,1,1,0\n1,1,0,0,1,NA,NA\n",
    "padding before": "0,1,1,0,1,1,0\nNA,NA,1,1,0,0,1\n",
    "separators at the end": "0,1,1,0,1,1,0,\n1,1,0,0,1,\n",
    "signs and zeros": "+0,01,1,0,1,1,00\n1,1,0,0,1\n",
    "header": "V1,V2,V3,V4,V5,V6,V7\n0,1,1,0,1,1,0\n1,1,0,0,1,,\n",
    "header and row names": '"","V1","V2","V3","V4","V5","V6","V7"\n"a",0,1,1,0,1,1,0\n"b",1,1,0,0,1,NA,NA\n',
    "row names": "one,0,1,1,0,1,1,0\ntwo,1,1,0,0,1\n",
    "digits without separators": "0110110\n11001\n",
    "letters": "ABBABBA\nBBAAB\n",
    "labels": "A,B,B,A,B,B,A\nB,B,A,A,B\n",
    "words": "dry,wet,wet,dry,wet,wet,dry\nwet,wet,dry,dry,wet\n",
    "FASTA": ">first one\nABB\nABBA\n>second\nBBAAB\n",
    "a panel": "id,state\n" + "".join(f"a,{s}\n" for s in FIRST) + "".join(f"b,{s}\n" for s in SECOND),
    "a panel without header": "".join(f"a;{s}\n" for s in FIRST) + "".join(f"b;{s}\n" for s in SECOND),
    "a panel with times": "id,time,state\n"
    + "".join(f"{n},{t},{s}\n" for n, of in (("a", FIRST), ("b", SECOND)) for t, s in reversed([*enumerate(of)])),
    "pandas' to_csv": ",0,1,2,3,4,5,6\n0,0,1,1,0,1,1,0\n1,1,1,0,0,1,,\n",
    "pandas' to_csv without index": "0,1,2,3,4,5,6\n0,1,1,0,1,1,0\n1,1,0,0,1,,\n",
    "R's write.table with row names": '"V1" "V2" "V3" "V4" "V5" "V6" "V7"\n"1" 0 1 1 0 1 1 0\n"2" 1 1 0 0 1 NA NA\n',
    "TraMineR's STS": "0-1-1-0-1-1-0\n1-1-0-0-1\n",
    "a name and letters": "one,ABBABBA\ntwo,BBAAB\n",
    "JSON": "[[0, 1, 1, 0, 1, 1, 0], [1, 1, 0, 0, 1]]\n",
    "labels in several cases": "Dry,wet,wet,dry,WET,wet,dry\nwet,Wet,dry,dry,wet\n",
    "states with decimal commas": "0,0;1,0;1,0;0,0;1,0;1,0;0,0\n1,0;1,0;0,0;0,0;1,0\n",
    "Excel's missing value": "0,1,1,0,1,1,0\n1,1,0,0,1,#N/A,#NV\n",
    "a sequence a column": "time,one,two\n"
    + "".join(f"{t},{a},{b}\n" for t, (a, b) in enumerate(zip(FIRST, [*SECOND, "", ""], strict=True))),
    **{
        f"a panel called {columns}": columns
        + "\n"
        + "".join(
            columns.replace(i, n).replace(w, str(t + 1)).replace(z, str(s)) + "\n"
            for n, of in (("s1", FIRST), ("s2", SECOND))
            for t, s in enumerate(of)
        )
        for columns, i, w, z in (
            ("unit_id,obs,y", "unit_id", "obs", "y"),
            ("Person;Welle;Zustand", "Person", "Welle", "Zustand"),
            ("time,id,state", "id", "time", "state"),
            ("state,id,visit", "id", "visit", "state"),
            ("SubjectID,wave,status", "SubjectID", "wave", "status"),
        )
    },
    "a numbered panel without header": "".join(
        f"{n},{t},{s}\n" for n, of in ((4, FIRST), (7, SECOND)) for t, s in enumerate(of)
    ),
    "pandas' panel": ",id,time,state\n"
    + "".join(
        f"{k},{n},{t},{s}\n"
        for k, (n, t, s) in enumerate((n, t, s) for n, of in (("a", FIRST), ("b", SECOND)) for t, s in enumerate(of))
    ),
    **{
        f"columns called {stem}1 ..": f"{first},"
        + ",".join(f"{stem}{k}" for k in range(1, 8))
        + "\na,0,1,1,0,1,1,0\nb,1,1,0,0,1,,\n"
        for first, stem in (("id", "month"), ("id", "t"), ("person", "wave_"), ("subject", "y"), ("", "2020-0"))
    },
    "a panel with one more column": "id,time,sex,state\n"
    + "".join(f"{n},{t},f,{s}\n" for n, of in (("a", FIRST), ("b", SECOND)) for t, s in enumerate(of)),
    "comments": "# two\n0,1,1,0,1,1,0 # the first\n1,1,0,0,1\n",
}
COLUMNS = {  # all are FIRST alone
    "a state a line": "".join(f"{s}\n" for s in FIRST),
    "with a header": "state\n" + "".join(f"{s}\n" for s in FIRST),
    "times and states": "time,state\n" + "".join(f"2020-01-{t + 1:02d},{s}\n" for t, s in enumerate(FIRST)),
    "labels a line": "".join(f"{'AB'[s]}\n" for s in FIRST),
    "a time a line, of many": "time,"
    + ",".join(f"series{k}" for k in range(20))
    + "\n"
    + "".join(f"{t}," + ",".join([str(s)] * 20) + "\n" for t, s in enumerate(FIRST)),
    "an index": '"","x"\n' + "".join(f'"{t + 1}",{s}\n' for t, s in enumerate(FIRST)),
    "pandas' Series": ",0\n" + "".join(f"{t},{s}\n" for t, s in enumerate(FIRST)),
    "R's write.table": '"x"\n' + "".join(f'"{t + 1}" {s}\n' for t, s in enumerate(FIRST)),
    **{
        f"times as {times[0]}": "time,state\n"
        + "".join(
            f"{t},{s}\n"
            for t, s in sorted(zip(times, FIRST, strict=True))  # as text
        )
        for times in (
            ["28.02.2020", "01.03.2020", "2.03.2020", "1.04.2020", "1.05.2020", "1.06.2020", "1.01.2021"],
            [f"1/{day}/2020" for day in range(8, 15)],
            [f"v{k}" for k in range(5, 12)],
            ["Jan", "Feb", "March", "April", "May", "June", "July"],
            [str(k) for k in range(7, 14)],
        )
    },
    "one row": ",".join(map(str, FIRST)) + "\n",
}
OBJECTS = {  # all are FIRST and SECOND
    "lists": [FIRST, SECOND],
    "arrays": [np.array(FIRST), np.array(SECOND, dtype=np.uint8)],
    "floats": [[float(s) for s in FIRST], SECOND],
    "None": [FIRST, [*SECOND, None, None]],
    "numpy's NaN": np.array([FIRST, [*SECOND, np.nan, np.nan]]),
    "a masked array": np.ma.masked_array([FIRST, [*SECOND, 7, 7]], [[False] * 7, [False] * 5 + [True] * 2]),
    "masked rows": [np.ma.masked_array(FIRST), np.ma.masked_array([*SECOND, 9], [False] * 5 + [True])],
    "a DataFrame": pd.DataFrame([FIRST, [*SECOND, None, None]]),
    "a DataFrame of nullable integers": pd.DataFrame([FIRST, [*SECOND, pd.NA, pd.NA]]).astype("Int64"),
    "labels": [["AB"[s] for s in FIRST], ["AB"[s] for s in SECOND]],
    "strings": ["ABBABBA", "BBAAB"],
    "a Series of lists": pd.Series([FIRST, SECOND]),
    "counted from 1": [[s + 1 for s in FIRST], [s + 1 for s in SECOND]],
    "a dict": {"one": FIRST, "two": SECOND},
    "a DataFrame of observations": pd.DataFrame(
        [(n, t, s) for n, of in (("a", FIRST), ("b", SECOND)) for t, s in enumerate(of)],
        columns=["id", "time", "state"],
    ),
    "a DataFrame with names": pd.DataFrame(
        [["a", *FIRST], ["b", *SECOND, None, None]], columns=["id", *map(str, range(7))]
    ),
}


@pytest.fixture
def matrix_file(tmp_path):
    path = tmp_path / "pi.csv"
    path.write_text(MATRICES["plain"])
    return path


@pytest.mark.parametrize("form", MATRICES)
def test_every_form_of_a_matrix_is_that_matrix(tmp_path, form):
    path = tmp_path / "pi.csv"
    path.write_bytes(MATRICES[form].encode())
    found = read_transition(path)
    np.testing.assert_allclose(found.values, PI, rtol=1e-15)
    assert found.labels in (None, ("A", "B"), ("1", "2"))


@pytest.mark.parametrize("form", SEQUENCES)
def test_every_form_of_sequences_gives_the_same_posterior(run, tmp_path, matrix_file, form):
    """By both ways out of the command, and from Python."""
    path = tmp_path / "sequences.csv"
    path.write_bytes(SEQUENCES[form].encode())
    plain = mdbench.posterior(PI, 2, [FIRST, SECOND])
    found = run("posterior", "--transition", matrix_file, "--order", 2, "--sequences", path, "--json")
    assert found.code == 0, found.err
    for a, b in zip(json.loads(found.out)["sequences"], plain["sequences"], strict=True):
        assert {k: v for k, v in a.items() if k != "name"} == {k: v for k, v in b.items() if k != "name"}
    table = run("posterior", "--transition", matrix_file, "--order", 2, "--sequences", path)
    assert table.code == 0
    assert f"{plain['sequences'][1]['log_evidence']:.6f}" in table.out


@pytest.mark.parametrize("form", COLUMNS)
def test_every_form_of_one_sequence(tmp_path, form):
    path = tmp_path / "sequences.csv"
    path.write_text(COLUMNS[form])
    for found in read_sequences(path, 2, as_transition(PI)).sequences:
        assert found.tolist() == FIRST


@pytest.mark.parametrize("form", OBJECTS)
def test_every_object_gives_the_same_posterior(form):
    plain, found = (mdbench.posterior(PI, 2, each)["sequences"] for each in ([FIRST, SECOND], OBJECTS[form]))
    assert [s["posterior_mean"] for s in found] == [s["posterior_mean"] for s in plain]


@pytest.mark.parametrize(
    "given", [FIRST, np.array(FIRST), pd.Series(FIRST), "ABBABBA", tuple(FIRST)], ids=lambda given: type(given).__name__
)
def test_a_single_sequence_needs_no_list_around_it(given):
    (found,) = mdbench.posterior(PI, 2, given)["sequences"]
    assert found["posterior_mean"] == mdbench.posterior(PI, 2, [FIRST])["sequences"][0]["posterior_mean"]


def test_a_data_frame_keeps_its_labels():
    frame = pd.DataFrame(PI, index=["dry", "wet"], columns=["dry", "wet"])
    found = mdbench.posterior(frame[["wet", "dry"]], 2, [["dry", "wet", "wet", "dry", "wet", "wet", "dry"]])
    assert found["labels"] == ["dry", "wet"]
    assert found["sequences"][0]["posterior_mean"] == mdbench.posterior(PI, 2, FIRST)["sequences"][0]["posterior_mean"]
    json.dumps(found, allow_nan=False)


def test_standard_input(run, monkeypatch, matrix_file):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(SEQUENCES["plain"].encode())))
    found = run("posterior", "--transition", matrix_file, "--order", 2, "--sequences", "-", "--json")
    assert (found.code, len(json.loads(found.out)["sequences"])) == (0, 2)


def test_states_are_named_or_numbered(tmp_path, matrix_file, run):
    path = tmp_path / "s.csv"
    path.write_text("wet,dry,dry,wet,wet,wet\n")
    given = ("posterior", "--transition", matrix_file, "--order", 2, "--sequences", path)
    found, other = (json.loads(run(*given, *more, "--json").out) for more in ((), ("--states", "wet,dry")))
    assert (found["labels"], other["labels"]) == (["dry", "wet"], ["wet", "dry"])  # alphabetical unless told
    assert "states in the order dry, wet" in run(*given).err
    assert found["sequences"][0]["posterior_mean"] != other["sequences"][0]["posterior_mean"]
    path.write_text("1,1,1,1\n")
    assert "states counted from 0, though none is 0" in run(*given).err
    matrix = as_transition(PI)
    assert as_sequences([[1, 1, 1, 1]], matrix, first_state=1).sequences[0].tolist() == [0] * 4
    assert as_sequences([[1, 1, 1, 1]], matrix).sequences[0].tolist() == [1] * 4


WEATHER = ",sun,rain\nsun,0.75,0.25\nrain,0.35,0.65\n"
DNA = "".join(f"{row}\n" for row in ("\tT\tC\tA\tG", *(f"{s}\t0.25\t0.25\t0.25\t0.25" for s in "TCAG")))


@pytest.mark.parametrize(
    ("matrix", "text", "tokens"),
    [
        (WEATHER, "Rain,Sun,Sun,RAIN,rain\n", [1, 0, 0, 1, 1]),  # in the order of the matrix, not of the alphabet
        (WEATHER, "1,0,0,1\n", [1, 0, 0, 1]),
        (DNA, ">a\nacgu\n; a comment\n5 TTNR-A 10\n", [2, 1, 3, 0, 0, 0, GAP, GAP, GAP, 2]),
        (DNA, "ACGTN\nTTTTT\n", [2, 1, 3, 0]),
        (",none,mild\nnone,0.75,0.25\nmild,0.35,0.65\n", "none,mild,none,NA,mild,none\n", [0, 1, 0, GAP, 1, 0]),
        (",-,+\n-,0.75,0.25\n+,0.35,0.65\n", "-,+,+,-\n", [0, 1, 1, 0]),
        ("0.75,0.25\n0.35,0.65\n", "0\n1\n1\n\n0\n1\n\n", [0, 1, 1, GAP, 0, 1]),
        ("0.75,0.25\n0.35,0.65\n", "time,state\n1,0\n2,1\n5,1\n6,0\n", [0, 1, GAP, GAP, 1, 0]),
        ("0.75,0.25\n0.35,0.65\n", "id,time,state\na,3,1\na,1,0\na,2,1\n", [0, 1, 1]),
    ],
)
def test_what_a_state_is_and_where_one_is_missing(tmp_path, matrix, text, tokens):
    for name, content in (("pi.csv", matrix), ("s.csv", text)):
        (tmp_path / name).write_text(content)
    found = read_sequences(tmp_path / "s.csv", 1, read_transition(tmp_path / "pi.csv"))
    assert found.sequences[0].tolist() == tokens


@pytest.mark.parametrize(
    ("matrix", "text", "said"),
    [
        (WEATHER, "sonne,regen,sonne\n", "'sonne' at position 1 is none of the states sun, rain"),
        (WEATHER, "sun,rain,snow\n", "'snow' at position 3 is none of the states sun, rain"),
        (",1,2\n1,0.75,0.25\n2,0.35,0.65\n", "0,1,1,0\n", "'0' at position 1 is none of the states 1, 2"),
        ("", "0,1,-9,1\n", "state -9 at position 3 is outside 0..1; what is missing is left empty, or NA"),
        ("", "time,state\n1/2/2020,0\n3/4/2020,1\n", "can be read in two ways; write 2020-01-31"),
        ("", "time,state\nfirst,0\nthen,1\n", "the time 'first' has no order; write numbers, or dates such as"),
        ("", "id,time,state\na,1,0\na,1,1\n", "two observations of 'a' at the time '1'; which comes first?"),
        ("", "time,state\n0,0\n1,1\n999999999,1\n", "are missing, for 3 observations; number them"),
        ("", "id,time,pain,mood\na,1,0,1\na,2,1,1\n", "which of its columns is the state (pain, mood)?"),
        ("", "who,when,what\n4,1,0\n4,2,1\n5,1,0\n", "of a panel call them id, time and state"),
        ("", "@r1\nACGT\n+\nIIII\n", "looks like FASTQ"),
        ("", "a,b\nb,c\na,c\n", "the states a, b, c are not the 2 of the matrix"),
    ],
)
def test_what_can_be_meant_in_several_ways_is_refused(tmp_path, run, matrix, text, said):
    for name, content in (("pi.csv", matrix or MATRICES["plain"]), ("s.csv", text)):
        (tmp_path / name).write_text(content)
    refused = run("posterior", "--transition", tmp_path / "pi.csv", "--order", 1, "--sequences", tmp_path / "s.csv")
    assert refused.code == 2
    assert said in refused.err.splitlines()[-1]
    assert len(refused.err.splitlines()[-1]) <= 300


def test_the_table_of_a_pooled_posterior(run, tmp_path, matrix_file):
    (tmp_path / "s.csv").write_text(SEQUENCES["plain"])
    found = run("posterior", "--transition", matrix_file, "--order", 2, "--sequences", tmp_path / "s.csv", "--pooled")
    pooled = mdbench.posterior(PI, 2, [FIRST, SECOND], pooled=True)
    assert found.code == 0
    assert f"{pooled['pooled']['log_evidence']:.6f}" in found.out


def test_closed_standard_input(run, monkeypatch, matrix_file):
    monkeypatch.setattr(sys, "stdin", None)
    found = run("posterior", "--transition", matrix_file, "--order", 2, "--sequences", "-")
    assert (found.code, "standard input is closed" in found.err) == (2, True)


def test_gaps_are_crossed_by_no_transition():
    """What is left are the transitions of the parts, with one λ: their likelihoods, by hand."""
    (found,) = mdbench.posterior(PI, 2, [[*FIRST, None, *SECOND]])["sequences"]
    lambdas = np.linspace(0, 1, 200_001)
    log_likelihood = np.zeros_like(lambdas)
    for part in (FIRST, SECOND):
        for t in range(2, len(part)):
            x = PI[part[t - 1], part[t]], PI[part[t - 2], part[t]]
            log_likelihood += np.log(lambdas * x[0] + (1 - lambdas) * x[1])
    weights = np.exp(log_likelihood)
    mean = np.trapezoid(lambdas * weights, lambdas) / np.trapezoid(weights, lambdas)
    assert found["posterior_mean"][0] == pytest.approx(mean, abs=1e-9)
    assert found["log_evidence"] == pytest.approx(np.log(np.trapezoid(weights, lambdas)), abs=1e-9)
    pooled = mdbench.posterior(PI, 2, [FIRST, SECOND], pooled=True)
    np.testing.assert_allclose(pooled["pooled"]["posterior_mean"], found["posterior_mean"], rtol=1e-13)
    last = FIRST[-1], FIRST[-2]
    np.testing.assert_allclose(
        pooled["sequences"][0]["next_token"], np.array(found["posterior_mean"]) @ PI[list(last)], rtol=1e-13
    )
    assert found["next_token"] == pytest.approx(pooled["sequences"][1]["next_token"])
    urn = mdbench.posterior(PI, 2, [[*FIRST, None, *SECOND]], method="urn")["sequences"][0]
    np.testing.assert_allclose(urn["posterior_mean"], found["posterior_mean"], atol=1e-12)


def test_a_gap_just_before_the_end_leaves_the_next_token_unknown():
    (found,) = mdbench.posterior(PI, 2, [[*FIRST, None, 1]])["sequences"]
    assert found["next_token"] is None
    (plain,) = mdbench.posterior(PI, 2, [FIRST])["sequences"]
    np.testing.assert_allclose(found["posterior_mean"], plain["posterior_mean"], rtol=1e-13)


@pytest.mark.parametrize("form", OFF)
def test_what_is_off_is_offered_a_mend(run, tmp_path, form):
    (tmp_path / "pi.csv").write_text(OFF[form])
    (tmp_path / "s.csv").write_text(SEQUENCES["plain"])
    given = ("posterior", "--transition", tmp_path / "pi.csv", "--order", 2, "--sequences", tmp_path / "s.csv")
    refused = run(*given)
    assert refused.code == 2
    assert "--normalise divides each by its sum" in refused.err
    assert "rows are off by up to" in refused.err
    found = run(*given, "--normalise", "--json")
    values = np.loadtxt(io.StringIO(OFF[form]), delimiter=",")
    direct = mdbench.posterior(values / values.sum(axis=1, keepdims=True), 2, [FIRST, SECOND])
    assert json.loads(found.out)["sequences"][0]["posterior_mean"] == direct["sequences"][0]["posterior_mean"]
    assert "rows divided by their sums" in json.loads(found.out)["understood"][0]


def test_a_transposed_matrix_is_suspected_aloud():
    with pytest.raises(InputError, match="is it transposed"):
        as_transition(PI.T)
    assert "is it transposed" in as_transition(PI.T, normalise=True).notes[-1]


@pytest.mark.parametrize(
    "given",
    [
        [[True, 0.0], [0.5, 0.5]],
        np.array([[True, False], [False, True]]),
        pd.DataFrame([["0.75", "0.25"], ["0.35", "0.65"]]),
        np.ma.masked_array(PI, [[True, False], [False, False]]),
        [["a", "b"], ["c", "d"]],
        [[0.5, 0.5], [1.0]],
    ],
    ids=["bool", "bools", "text", "masked", "words", "ragged"],
)
def test_a_matrix_is_of_numbers(given):
    with pytest.raises(InputError, match=r"q rows of q numbers|masked entries"):
        as_transition(given)
    if not isinstance(given, np.ma.MaskedArray):
        with pytest.raises(InputError, match="q rows of q numbers"):
            check_transition(given)


def test_numpy_scalars_are_numbers():
    plain = mdbench.posterior(PI, 2, [FIRST], concentration=0.5)
    found = mdbench.posterior(PI, np.int64(2), [FIRST], concentration=np.float32(0.5))
    assert found == plain
    json.dumps(found, allow_nan=False)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("matrix", "sequences", "said"),
    [
        ("0.75,0.25\n0.35\n", "0,1,1\n", "line 2: 1 numbers, but the first row has 2"),
        ("0.75,0.25\n0.35,x\n", "0,1,1\n", "line 2: 'x' is not a number"),
        ("A,B\n0.75,0.25\n0.35,x\n", "0,1,1\n", "line 3: 'x' is not a number"),
        (",A,B\nA,0.75,0.25\nC,0.35,0.65\n", "0,1,1\n", "its rows are called A, C and its columns A, B"),
        ("0.75,0.25\n0.35,0.65\n", "0,1,2\n", "sequence 1: state 2 at position 3 is outside 0..1"),
        ("0.75,0.25\n0.35,0.65\n", "0,1,1_0\n", "'1_0' at position 3 is not a state"),
        ("0.75,0.25\n0.35,0.65\n", "0,1,0.5\n", "'0.5' at position 3 is not a state"),
        ("0.75,0.25\n0.35,0.65\n", "A,B,C,A\n", "the states A, B, C are not the 2 of the matrix"),
        ("0.75,0.25\n0.35,0.65\n", "0,1\x0b1\n", "which no table has"),
        ("0.75,0.25\n0.35,0.65\n", "0,1,NA,0,1,NA,1\n", "gaps leave no 3 states in a row"),
        ("0.75,0.25\n0.35,0.65\n", "id,state\n", "has a header and no rows"),
        ("3;1\n1.200;950\n", "0,1,1\n", "is 1.200 a count with a mark for thousands?"),
        (",A,B,Total\nA,3,1,4\nB,2,5,7\nTotal,5,6,11\n", "A,B,B\n", "give it without these totals"),
        ("3,1,4\n2,5,7\n5,6,11\n", "0,1,1\n", "give it without these totals"),
    ],
)
def test_the_rest_is_refused_with_a_sentence(tmp_path, run, matrix, sequences, said):
    (tmp_path / "pi.csv").write_text(matrix)
    (tmp_path / "s.csv").write_text(sequences)
    refused = run("posterior", "--transition", tmp_path / "pi.csv", "--order", 2, "--sequences", tmp_path / "s.csv")
    assert refused.code == 2
    assert said in refused.err.splitlines()[-1]
    assert len(refused.err.splitlines()[-1]) <= 300


def test_a_huge_cell_is_not_printed_whole(tmp_path, run, matrix_file):
    (tmp_path / "s.csv").write_text("0,1," + "9" * 100_000 + "\n")
    refused = run("posterior", "--transition", matrix_file, "--order", 2, "--sequences", tmp_path / "s.csv")
    assert (refused.code, len(refused.err) < 400) == (2, True)


def test_gap_is_no_state():
    assert GAP < 0
