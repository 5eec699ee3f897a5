"""Files and objects as people have them: what each means, or why it is refused."""

import contextlib

import numpy as np
import pandas as pd
import pytest
import torch

from mdbench.core.errors import InputError
from mdbench.posteriors.reading import as_sequences, as_transition, read_sequences, read_transition

PLAIN = "0.75,0.25\n0.35,0.65\n"
LETTERS = ",A,B\nA,0.75,0.25\nB,0.35,0.65\n"
WEATHER = ",sunny,rainy\nsunny,0.75,0.25\nrainy,0.35,0.65\n"
WORK = ";Full time;Part time\nFull time;0.75;0.25\nPart time;0.35;0.65\n"
AGES = ";<5;>=5\n<5;0,75;0,25\n>=5;0,35;0,65\n"
SLEEP = ",W,N1,N2,N3,R\n" + "".join(f"{n},0.2,0.2,0.2,0.2,0.2\n" for n in ("W", "N1", "N2", "N3", "R"))
THREE = "0.5,0.3,0.2\n0.2,0.6,0.2\n0.3,0.3,0.4\n"
ELEVEN = "\n".join(",".join([f"{1 / 11:.17f}"] * 11) for _ in range(11))

UNDERSTOOD = {
    "labels stay, whatever the first state": (SLEEP, "W,N1,N2,N2,N3,R", {"first_state": 1}, [[0, 1, 2, 2, 3, 4]]),
    "numbers beside labels": (WEATHER, "1,2,1,1", {"first_state": 1}, [[0, 1, 0, 0]]),
    "states in another order": (LETTERS, "A,B,B,A", {"states": ["B", "A"]}, [[0, 1, 1, 0]]),
    "dates without a name": (
        PLAIN,
        ",x,y\n2020-01-01,0,1\n2020-01-02,1,0\n2020-01-03,1,1\n",
        {},
        [[0, 1, 1], [1, 0, 1]],
    ),
    "dates before one column": (PLAIN, ",state\n2020-01-01,0\n2020-01-02,1\n2020-01-03,1\n", {}, [[0, 1, 1]]),
    "months with years": (PLAIN, "month,state\nOct-19,0\nNov-19,1\nDec-19,1\nJan-20,0\n", {}, [[0, 1, 1, 0]]),
    "months in words": (PLAIN, "date,state\nNov 1 2019,0\nDec 1 2019,1\nJan 1 2020,1\n", {}, [[0, 1, 1]]),
    "quarters": (PLAIN, "date,state\nQ4 2019,1\nQ3 2019,0\nQ2 2020,1\n", {}, [[0, 1, -1, 1]]),
    "dates as numbers": (PLAIN, "date,weather\n20200130,0\n20200131,1\n20200201,1\n20200202,0\n", {}, [[0, 1, 1, 0]]),
    "months as numbers": (PLAIN, "date,weather\n202011,0\n202012,1\n202101,1\n", {}, [[0, 1, 1]]),
    "days that are missing": (
        PLAIN,
        "date,state\n" + "".join(f"2020-01-{d:02d},{d % 2}\n" for d in (1, 2, 3, 4, 7, 8)),
        {},
        [[1, 0, 1, 0, -1, -1, 1, 0]],
    ),
    "working days": (
        PLAIN,
        "date,state\n" + "".join(f"2020-01-{d:02d},{d % 2}\n" for d in (2, 3, 6, 7, 9, 10)),
        {},
        [[0, 1, 0, 1, -1, 1, 0]],
    ),
    "hours without a zero": (
        PLAIN,
        "time,state\n2020-01-01 9:00,0\n2020-01-01 10:00,1\n2020-01-01 11:00,1\n",
        {},
        [[0, 1, 1]],
    ),
    "offsets": (
        PLAIN,
        "time,state\n2020-01-01T03:00+02:00,1\n2020-01-01T01:00+01:00,0\n2020-01-01T02:00Z,1\n",
        {},
        [[0, 1, 1]],
    ),
    "half days": (PLAIN, "time,state\n09:00 AM,0\n01:00 PM,1\n11:00 AM,1\n", {}, [[0, 1, 1]]),
    "missing times of columns": (PLAIN, "t,s1,s2\n1,0,1\n2,1,1\n5,0,1\n", {}, [[0, 1, -1, -1, 0], [1, 1, -1, -1, 1]]),
    "columns that nothing uses": (LETTERS, "id,time,age,state\n1,20,3,A\n1,21,3,B\n1,22,3,B\n", {}, [[0, 1, 1]]),
    "R's vector": (PLAIN, " [1] 0 1 1 0 1\n [6] 1 0 0 1\n", {}, [[0, 1, 1, 0, 1, 1, 0, 0, 1]]),
    "R's factor": (LETTERS, " [1] A B B A\nLevels: A B\n", {}, [[0, 1, 1, 0]]),
    "R's c()": (PLAIN, "c(0,1,1)\nc(1,0,1)\n", {}, [[0, 1, 1], [1, 0, 1]]),
    "Python's list": (LETTERS, "['A', 'B', 'A']", {}, [[0, 1, 0]]),
    "a first row that counts": (THREE, "0,1,2\n0,0,1\n2,2,1\n", {}, [[0, 1, 2], [0, 0, 1], [2, 2, 1]]),
    "quoted lines": (PLAIN, '"0,1,1,0"\n"1,0,0,1"\n', {}, [[0, 1, 1, 0], [1, 0, 0, 1]]),
    "quoted cells": (PLAIN, 'id,states\n1,"[0, 1, 1]"\n2,"[1, 0, 0]"\n', {}, [[0, 1, 1], [1, 0, 0]]),
    "numbers in FASTA": (ELEVEN, ">s1\n10 1 2 0 10 3\n", {}, [[10, 1, 2, 0, 10, 3]]),
    "digits with a zero first": (PLAIN, "001\n001\n000\n", {}, [[0, 0, 1], [0, 0, 1], [0, 0, 0]]),
    "decimal commas under a name": (PLAIN, "zustand\n1,0\n0,0\n1,0\n", {}, [[1, 0, 1]]),
    "letters that columns are called": (PLAIN, "H,T,T,H\n", {}, [[0, 1, 1, 0]]),
    "such a letter first": (PLAIN, "T\nH\nH\nH\n", {}, [[1, 0, 0, 0]]),
    "words in a column": (PLAIN, "state\nsunny\nrainy\nsunny\n", {}, [[1, 0, 1]]),
    "strings under a header": (LETTERS, "id,sequence\ns1,ABBA\ns2,BBA\n", {}, [[0, 1, 1, 0], [1, 1, 0]]),
    "strings between tabs": (LETTERS, "name\tseq\ns1\tABBA\n", {}, [[0, 1, 1, 0]]),
    "steps in a cell": (LETTERS, "id;path\n1;A-B-B-A\n2;A-A-B\n", {}, [[0, 1, 1, 0], [0, 0, 1]]),
    "years as a header": (LETTERS, "id,1990,1991,1992\n1,A,B,B\n2,B,B,A\n", {}, [[0, 1, 1], [1, 1, 0]]),
    "years alone": (LETTERS, "1990,1991,1992\nA,B,B\nB,B,A\n", {}, [[0, 1, 1], [1, 1, 0]]),
    "days as a header": (LETTERS, "subject,Mon,Tue,Wed\n1,A,B,B\n2,B,B,A\n", {}, [[0, 1, 1], [1, 1, 0]]),
    "an unknown name, then times": (LETTERS, "vpx,t1,t2,t3\nx,A,B,B\ny,B,B,A\n", {}, [[0, 1, 1], [1, 1, 0]]),
    "labels with blanks": (WORK, "Full time\nPart time\nPart time\n", {}, [[0, 1, 1]]),
    "an index by name": (PLAIN, "index,state\n0,0\n1,1\n2,1\n", {}, [[0, 1, 1]]),
    "labels with signs": (AGES, "<5;>=5;<5\n", {}, [[0, 1, 0]]),
    "such labels in a column": (AGES, ">=5\n<5\n>=5\n", {}, [[1, 0, 1]]),
}
PANEL = pd.DataFrame({"id": [1, 1, 1, 2, 2, 2], "time": [0, 1, 2] * 2, "state": [0, 1, 1, 1, 0, 0]})
OBJECTS = {
    "a panel in the index": (PLAIN, PANEL.set_index(["id", "time"]), [[0, 1, 1], [1, 0, 0]]),
    "a Series with one": (PLAIN, PANEL.set_index(["id", "time"])["state"], [[0, 1, 1], [1, 0, 0]]),
    "ids in the index": (PLAIN, PANEL.set_index("id")[["state"]], [[0, 1, 1], [1, 0, 0]]),
    "days in the index": (
        PLAIN,
        pd.Series([0, 1, 1, 0], index=pd.to_datetime(["2020-01-04", "2020-01-05", "2020-01-06", "2020-01-08"])),
        [[0, 1, 1, -1, 0]],
    ),
    "words": (PLAIN, ["sunny", "rainy", "sunny"], [[1, 0, 1]]),
    "digits": (PLAIN, ["001", "001", "000"], [[0, 0, 1], [0, 0, 1], [0, 0, 0]]),
    "bytes": (PLAIN, np.array([b"0", b"1", b"1"]), [[0, 1, 1]]),
    "torch": (PLAIN, torch.tensor([0, 1, 1]), [[0, 1, 1]]),
    "torch's tensors": (PLAIN, [torch.tensor([0, 1, 1]), torch.tensor([1, 0])], [[0, 1, 1], [1, 0]]),
    "strings in a DataFrame": (LETTERS, pd.DataFrame({"id": ["a", "b"], "seq": ["ABB", "BA"]}), [[0, 1, 1], [1, 0]]),
}
REFUSED = {
    "months without years": (PLAIN, "month,state\nNov,0\nDec,1\nJan,1\n", "its times go back from 'Dec' to 'Jan'"),
    "weeks": (PLAIN, "week,state\n51,0\n52,1\n1,1\n", "its times go back from '52' to '1'"),
    "an id that is not known": (LETTERS, "mous,time,state\na,1,A\nb,2,B\na,3,A\n", "nothing uses its columns mous"),
    "a time that is not known": (LETTERS, "id,age,state\n1,20,A\n1,21,B\n", "call the one that is so time"),
    "two ids": (LETTERS, "cage,animal,state\n1,1,A\n2,1,B\n", "cage, animal are of one kind"),
    "names or states": (THREE, "1,2,2\n2,1,1\n3,1,1\n", "are these names or states"),
    "a code for two letters": (",A,U\nA,0.7,0.3\nU,0.4,0.6\n", "A,U,R", "'R' at position 3 is none of the states A, U"),
    "no date": (PLAIN, "date,state\n2020-02-30,0\n2020-03-01,1\n", "not all of its times are dates"),
}
MATRICES = {
    "decimal commas in quotes": '"0,75","0,25"\n"0,35","0,65"\n',
    "numbers as names": "10,20\n0.75,0.25\n0.35,0.65\n",
    "a corner with a name": "stage,0,5\n0,0.75,0.25\n5,0.35,0.65\n",
    "Matlab": "[0.75 0.25; 0.35 0.65]",
    "numpy": "np.array([[0.75, 0.25],\n          [0.35, 0.65]])",
    "braces": "{{0.75,0.25},{0.35,0.65}}",
    "Markdown": "| |A|B|\n|---|---|---|\n|A|0.75|0.25|\n|B|0.35|0.65|\n",
    "labels that were numbers": ",1.0,2.0\n1.0,0.75,0.25\n2.0,0.35,0.65\n",
}
MATRIX_OBJECTS = {
    "np.matrix": np.matrix([[0.75, 0.25], [0.35, 0.65]]),
    "dicts": {"A": {"A": 0.75, "B": 0.25}, "B": {"B": 0.65, "A": 0.35}},
    "torch": torch.tensor([[0.75, 0.25], [0.35, 0.65]], dtype=torch.float64, requires_grad=True),
    "a column of labels": pd.DataFrame({"from": ["A", "B"], "A": [0.75, 0.35], "B": [0.25, 0.65]}),
    "labels on one axis": pd.DataFrame([[0.75, 0.25], [0.35, 0.65]], columns=["A", "B"]),
}


def lists(tokens):
    return [sequence.tolist() for sequence in tokens.sequences]


@pytest.fixture
def written(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("form", UNDERSTOOD)
def test_what_is_meant(written, form):
    matrix, text, options, expected = UNDERSTOOD[form]
    pi = read_transition(written("pi.csv", matrix))
    assert lists(read_sequences(written("s.csv", text), 1, pi, **options)) == expected


@pytest.mark.parametrize("form", OBJECTS)
def test_what_an_object_means(written, form):
    matrix, given, expected = OBJECTS[form]
    assert lists(as_sequences(given, read_transition(written("pi.csv", matrix)))) == expected


@pytest.mark.parametrize("form", REFUSED)
def test_what_may_be_several_things_is_refused(written, form):
    matrix, text, said = REFUSED[form]
    pi = read_transition(written("pi.csv", matrix))
    with pytest.raises(InputError, match=said):
        read_sequences(written("s.csv", text), 1, pi)


@pytest.mark.parametrize("form", MATRICES)
def test_matrices_as_programs_write_them(written, form):
    found = read_transition(written("pi.csv", MATRICES[form]))
    np.testing.assert_array_equal(found.values, [[0.75, 0.25], [0.35, 0.65]])


@pytest.mark.parametrize("form", MATRIX_OBJECTS)
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_matrices_as_objects(form):
    np.testing.assert_array_equal(as_transition(MATRIX_OBJECTS[form]).values, [[0.75, 0.25], [0.35, 0.65]])


@pytest.mark.parametrize(
    "given",
    [
        pd.DataFrame({"id": [1, 1], "state": [0, 1]}).groupby("id")["state"],
        np.array([1, 2], "m8[s]"),
        3,
    ],
)
@pytest.mark.wrong_types
def test_an_object_that_is_none_is_a_sentence(written, given):
    pi = read_transition(written("pi.csv", PLAIN))
    with pytest.raises(InputError):
        as_sequences(given, pi)


@pytest.mark.parametrize(
    "text", ["1" + "%" * 5000, "1/" * 5000 + "1", "0,1" + " #" * 40_000 + '"', ";c\nACGT\n>x\nACGT\n"]
)
def test_no_text_breaks_or_hangs_the_reader(written, text):
    pi = read_transition(written("pi.csv", PLAIN))
    for read in (read_transition, lambda path: read_sequences(path, 1, pi)):
        with contextlib.suppress(InputError):
            read(written("x.csv", text))
