"""Whatever comes in by a file or an option: one sentence, or a result; nothing in between (docs/trust.md).

Each case runs a command in this process. It may end well; otherwise there is one sentence on stderr and an exit code.
In no case is there a traceback, a file that is half written, code that was executed, more memory or more time than
there may be. `.ci/run` tries more cases (``--hypothesis-profile=ci``) than `make test`.
"""

import io
import json
import os
import pickle
import resource
import shutil
import string
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytestmark = pytest.mark.wrong_types  # what comes in is not what annotations say

SENTENCE = 300  # characters
SECONDS, BYTES = 20, 2 * 2**30


class Canary:
    """A pickle of it leaves a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def place(tmp_path_factory, run):
    """A folder; imports and compilation, which are paid once, are no part of what is timed."""
    folder = tmp_path_factory.mktemp("doors")
    (folder / "pi.csv").write_text("0.75,0.25\n0.35,0.65\n")
    (folder / "s.csv").write_text("0,1,1,0,1\n")
    files = ("--transition", folder / "pi.csv", "--sequences", folder / "s.csv", "--order", "2")
    assert run("posterior", *files).code == 0
    cell = ("--task", "mtd-q3-m2", "--lengths", "16", "--n-sequences", "2")
    assert run("evaluate", "--predictor", "trained_l3", *cell).code == 0
    return folder


@pytest.fixture
def attempt(run, place, monkeypatch):
    """Run a command in a folder of its own with these files, and hold it to what every command must keep."""

    def attempt(*arguments, files=None, stdin=b""):
        folder = place / "case"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        before = sorted(folder.rglob("*"))
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        memory, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.monotonic()
        ran = run(*arguments)
        assert time.monotonic() - started < SECONDS
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - memory < BYTES
        after = sorted(folder.rglob("*"))
        assert not [path for path in after if path.name.startswith(".mdbench-")]
        assert not (folder / "canary").exists()
        assert not Path("/tmp/mdbench-canary").exists()
        assert "Traceback" not in ran.err
        if ran.code not in (0, None):
            assert ran.code in (1, 2)
            *_, last = ran.err.splitlines()
            assert last.startswith("mdbench: ")
            assert len(last) <= SENTENCE + len("mdbench: ")
            assert last.isprintable()
            if ran.code == 2:
                assert [path for path in after if path.is_file()] == [path for path in before if path.is_file()]
        return ran

    return attempt


# ------------------------------------------------------------------------------------------------------ what comes in

EVIL = ["__import__('os').mkdir('canary')", "$(mkdir canary)", "`mkdir canary`", "; mkdir canary", "{{7*7}}", "%s%n"]
NUMBERS = ["0", "1", "2", "-1", "+1", "1.0", "0.5", "1e400", "-1e400", "nan", "inf", "0x10", "1_0", "٣", "½", "1e-400"]
HUGE = ["9" * 25, "9" * 400, "9" * 5000, "-" + "9" * 30, "0." + "3" * 5000]
WORDS = ["", " ", "A", "C", "G", "T", "NA", "N/A", "null", "None", "True", "true", "x", "λ", "é", "🦋", "a" * 500, "'"]
CONTROL = ["\x00", "\x0b", "\x0c", "\x85", "\u2028", "\x1b[31m", "\r", "\ufeff", "\u202e", "\t"]
PATHS = [
    "/",
    ".",
    "..",
    "/dev/null",
    "/proc/self/mem",
    "nowhere",
    "~",
    "a" * 5000,
    "a/b/c",
    "-",
    "x.toml",
    "x.csv",
    "p.py:f",
]
tokens = st.sampled_from([*EVIL, *NUMBERS, *HUGE, *WORDS, *CONTROL, *PATHS])
texts = st.one_of(tokens, st.text(max_size=30), st.lists(tokens, max_size=4).map(",".join))
separators = st.sampled_from([",", ";", "\t", " ", "  ", ", ", "|"])
ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\x0c", "\u2028", ""])


def damaged(content):
    """A file as it is, cut, with some bytes changed, or in another encoding."""
    return st.one_of(
        content,
        st.builds(lambda c, k: c[: int(k * len(c))], content, st.floats(0, 1)),
        st.builds(
            lambda c, k, b: c[: int(k * len(c))] + b + c[int(k * len(c)) :],
            content,
            st.floats(0, 1),
            st.binary(max_size=5),
        ),
        content.map(lambda c: c.decode("utf-8", "replace").encode("utf-16")),
        st.binary(max_size=300),
    )


@st.composite
def tables(draw, cells=None):
    """Rows of cells, ragged and not."""
    cells = cells if cells is not None else st.one_of(st.sampled_from(["0", "1", "2", "A", "B", "0.5", "0.25"]), tokens)
    separator, end = draw(separators), draw(ends)
    quote = draw(st.sampled_from(["", "", '"']))
    rows = draw(st.lists(st.lists(cells, max_size=6), max_size=6))
    rows += draw(st.sampled_from([[], [["#", "comment"]], [[">", "name"]]]))
    text = end.join(separator.join(f"{quote}{cell}{quote}" for cell in row) for row in rows)
    return text.encode("utf-8", "surrogatepass")


matrices = damaged(
    st.one_of(
        tables(),
        tables(st.sampled_from(["0.5", "0,5", "1/2", "50%", "1", "3", "0.49999"])),
        st.sampled_from([b"0.75,0.25\n0.35,0.65\n", b",A,B\nA,3,1\nB,0.2,0.8\n", b"0.75;0.35\n0.25;0.65\n"]),
    )
)
sequences = damaged(
    st.one_of(
        tables(),
        tables(st.sampled_from(["0", "1", "NA", "", "1.0"])),
        st.sampled_from(
            [b"0,1,1,0,1\n1,1,0\n", b">s\nABBA\n", b"id,state\na,0\na,1\nb,0\nb,1\nb,1\n", b"\n".join([b"1"] * 40)]
        ),
    )
)
METHODS = ["exact", "urn", "laplace", "gibbs", "nuts", "vi_dirichlet", "reference", "bayes", "md1", "pyro_svi"]
OPTIONS = ["draws", "chains", "seed", "warmup", "steps", "points", "order", "eta", "c", "tree_depth", "x", ""]


@st.composite
def named_options(draw, names):
    """``name:option=value,option=value``, mostly wrong: what is right takes its time."""
    items = draw(
        st.lists(
            st.tuples(st.sampled_from(OPTIONS), st.sampled_from([*HUGE, *EVIL, *CONTROL, "-1", "x", "", "nan"])),
            min_size=1,
            max_size=3,
        )
    )
    glue = draw(st.sampled_from(["=", "=", "=", ":", ""]))
    return draw(st.sampled_from([*names, "", "λ"])) + ":" + ",".join(f"{key}{glue}{value}" for key, value in items)


# ------------------------------------------------------------------------------------------------------------- doors


@given(
    matrices,
    sequences,
    st.lists(st.sampled_from(["--normalise", "--pooled", "--json", "--prefixes"]), unique=True),
    st.data(),
)
def test_matrices_and_sequences(attempt, matrix, sequence, flags, data):
    options = data.draw(
        st.sampled_from([[], [], ["--states", "A,B"], ["--first-state", "1"], ["--out", "p.nc"], ["--states", "A,A"]])
    )
    order = data.draw(st.sampled_from(["1", "2", "2", "3", "0", "9" * 25]))
    attempt(
        "posterior",
        "--transition",
        "pi.csv",
        "--sequences",
        "s.csv",
        "--order",
        order,
        *flags,
        *options,
        files={"pi.csv": matrix, "s.csv": sequence},
    )


@given(
    st.one_of(sequences, tables(st.sampled_from(["sun", "rain", "NA"])), st.binary(max_size=5).map(lambda b: b * 30)),
    st.sampled_from(["1", "2", "3", "0", "9" * 25, "x"]),
    st.sampled_from(
        [[], ["--start", "2"], ["--start", "-1"], ["--states", "0,1"], ["--states", "A,A"], ["--out", "o"]]
    ),
    st.sampled_from([[], ["--json"]]),
)
def test_series(attempt, data, order, options, flags):
    attempt("fit", "--data", "s.csv", "--order", order, *options, *flags, files={"s.csv": data})


@given(
    st.one_of(named_options(METHODS), texts), st.one_of(named_options(["md", "dirichlet_em", "run", "p.py:f"]), texts)
)
@example(f"exact:draws={'9' * 300}", f"run:{'9' * 300}")  # longer than a file's name can be
@example("__import__('os').mkdir('canary')", f"run:{'9' * 300}@1")
def test_names_with_options(attempt, method, predictor):
    files = {"pi.csv": b"0.75,0.25\n0.35,0.65\n", "s.csv": b"0,1,1,0,1\n"}
    both = ("--transition", "pi.csv", "--sequences", "s.csv", "--order", "2")
    attempt("posterior", *both, f"--method={method}", files=files)
    cell = ("--task", "mtd-q3-m2", "--lengths", "16", "--n-sequences", "2", "--no-references")
    attempt("evaluate", f"--predictor={predictor}", *cell)
    attempt("show", "--", predictor)


values = st.one_of(
    st.sampled_from(
        ["1", "2", "16", "0.5", '"x"', "true", "[[0.5, 0.5], [0.25, 0.75]]", "[16]", '"mtd"', '"markov"', '"per_lag"']
    ),
    tokens,
    st.sampled_from(
        [
            "[" * 3000 + "]" * 3000,
            "[[true, false], [false, true]]",
            '[["0.5", "0.5"], ["1", "0"]]',
            "[[0.5, 0.5]]",
            "{}",
            "1979-05-27",
        ]
    ),
)
FIELDS = [
    "model",
    "name",
    "order",
    "concentration",
    "transition",
    "matrices",
    "lengths",
    "version",
    "n_states",
    "x",
    "independent",
]


@given(
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=5),
    st.booleans(),
    st.sampled_from(["t.toml", "t.toml", ".toml", "é.toml"]),
)
def test_task_files(attempt, fields, whole, name):
    base = {
        "model": '"mtd"',
        "order": "2",
        "concentration": "1.0",
        "transition": "[[0.5, 0.5], [0.25, 0.75]]",
        "lengths": "[16]",
    }
    text = "\n".join(f"{key} = {value}" for key, value in ((base | fields) if whole else fields).items())
    task = {name: text.encode("utf-8", "surrogatepass")}
    attempt("sample", "--task", name, "--n-sequences", "2", "--length", "8", "--out", "s.npz", files=task)
    attempt("show", "--", name, files=task)


@st.composite
def archives(draw):
    """An .npz of arrays that are not what they should be, some of them no arrays."""
    buffer = io.BytesIO()
    names = st.sampled_from(["T16", "T32", "seed0/T16", "seed1/T16", "T0", "T" + "9" * 25, "x", "../x", "T16\n"])
    shapes = st.sampled_from([(4, 3), (4, 16, 3), (2, 4, 3), (0, 3), (4, 2), (4,), ()])
    kinds = st.sampled_from(["f8", "f4", "f2", "i8", "c16", "U3", "?", "O"])
    fills = st.sampled_from([1 / 3, np.nan, np.inf, -1.0, 0.0, 1.0])
    with zipfile.ZipFile(buffer, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for name in draw(st.lists(names, max_size=3, unique=True)):
            kind = draw(kinds)
            member = io.BytesIO()
            array = np.full(draw(shapes), draw(fills))
            if kind == "O":
                array = np.full(array.shape, Canary("/tmp/mdbench-canary"), dtype=object)
            np.save(member, array.astype(kind), allow_pickle=True)
            content = member.getvalue()
            content = draw(st.sampled_from([content, content, b"", content[:-8], pickle.dumps(Canary("canary"))]))
            archive.writestr(name + draw(st.sampled_from([".npy", ".npy", ".npy", ""])), content)
    return buffer.getvalue()


predictions = st.one_of(
    tables(),
    st.builds(
        lambda rows, header: (header + "\n" + "\n".join(",".join(row) for row in rows)).encode(
            "utf-8", "surrogatepass"
        ),
        st.lists(
            st.lists(st.one_of(st.sampled_from(["16", "0", "1", "0.3", "0.4"]), tokens), min_size=4, max_size=6),
            max_size=5,
        ),
        st.sampled_from(["length,sequence,p0,p1,p2", "length,sequence", "length;sequence;p0;p1;p2", ""]),
    ),
)


@given(damaged(archives()), damaged(predictions), texts)
def test_predictions(attempt, archive, table, name):
    options = ("--task", "mtd-q3-m2", "--record", "--leaderboard", "board")
    attempt("score", "--predictions", "p.npz", "--name", "mine", *options, files={"p.npz": archive})
    attempt("score", "--predictions", "p.csv", "--name", "mine", *options, files={"p.csv": table})
    third = b"length,sequence,p0,p1,p2\n16,0,0.3,0.3,0.4\n"
    attempt("score", "--predictions", "p.csv", f"--name={name}", *options, files={"p.csv": third})


jsons = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), tokens),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(string.ascii_letters, max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def changed(draw, original):
    """JSON text with one value in it replaced, or a key more or less; or no JSON."""
    content = json.loads(original)
    inside = content
    while True:
        inner = [
            value
            for value in (inside.values() if isinstance(inside, dict) else inside)
            if isinstance(value, (dict, list)) and value
        ]
        if not inner or draw(st.booleans()):
            break
        inside = draw(st.sampled_from(inner))
    keys = list(inside) if isinstance(inside, dict) else range(len(inside))
    key = draw(st.sampled_from(list(keys)))
    what = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    if what == "replace":
        inside[key] = draw(jsons)
    elif what == "remove":
        del inside[key]
    elif isinstance(inside, dict):
        inside[draw(tokens)] = draw(jsons)
    else:
        inside.append(draw(jsons))
    text = json.dumps(content)
    return draw(st.sampled_from([text, text, text, text[:-1], text.replace("1", "9" * 5000, 1), "[" * 10**5])).encode()


@pytest.fixture(scope="module")
def recorded(make_records, place):
    (path,) = make_records(place / "leaderboard", "md1", lengths="16", n=8)
    record = json.loads(path.read_text())
    return path.read_text(), record["predictions"]["file"], (path.parent / record["predictions"]["file"]).read_bytes()


@given(st.data())
def test_records(attempt, recorded, data):
    original, file, probabilities = recorded
    record = data.draw(damaged(changed(original)))
    files = {
        "b/records/mtd-q3-m2/md1.json": record,
        f"b/records/mtd-q3-m2/{file}": data.draw(damaged(st.just(probabilities))),
    }
    attempt("verify", "b/records/mtd-q3-m2/md1.json", files=files)
    ran = attempt("leaderboard", "build", "--leaderboard", "b", "--check", files=files)
    assert ran.code in (1, 2)


SHIPPED = (
    Path(__file__).parents[2] / "mdbench" / "predictors" / "weights" / "trained_l3" / "mtd-q3-m2" / "T16" / "seed0"
)


@given(st.data())
def test_runs(attempt, data):
    card = data.draw(damaged(changed((SHIPPED / "card.json").read_text())))
    weights = data.draw(damaged(st.just((SHIPPED / "weights.safetensors").read_bytes())))
    cell = ("--task", "mtd-q3-m2", "--lengths", "16", "--n-sequences", "2", "--no-references")
    attempt("evaluate", "--predictor", "run:r", *cell, files={"r/card.json": card, "r/weights.safetensors": weights})


COMMANDS = {
    "list": [],
    "show": ["md1"],
    "sample": ["--task", "mtd-q3-m2", "--length", "8", "--n-sequences", "2", "--out", "s.npz", "--seed", "0"],
    "evaluate": [
        "--predictor",
        "uniform",
        "--task",
        "mtd-q3-m2",
        "--lengths",
        "16",
        "--n-sequences",
        "2",
        "--seed",
        "0",
        "--device",
        "cpu",
        "--gold",
        "exact",
        "--out",
        "o.json",
        "--per-sequence",
        "p.csv",
        "--work",
        "work",
    ],
    "compare": ["uniform", "md1", "--task", "mtd-q3-m2", "--lengths", "16", "--n-sequences", "2", "--seed", "0"],
    "check": ["uniform", "--task", "mtd-q3-m2", "--lengths", "x", "--device", "cpu", "--time-limit", "9"],
    "verify": ["nowhere.json", "--seed", "1", "--n-sequences", "4"],
    "leaderboard build": ["--leaderboard", "board", "--suite", "core"],
    "train": [
        "--task",
        "mtd-q3-m2",
        "--lengths",
        "16",
        "--seeds",
        "x",
        "--out",
        "runs",
        "--steps",
        "20",
        "--batch",
        "8",
        "--depth",
        "2",
        "--d-rel",
        "2",
        "--learning-rate",
        "0.01",
        "--model",
        "disentangled",
        "--loss",
        "squared_error",
    ],
    "tune": ["--task", "mtd-q3-m2", "--lengths", "16", "--steps", "x", "--depths", "3"],
    "identify": [
        "uniform",
        "--task",
        "mtd-q3-m2",
        "--lengths",
        "x",
        "--n-sequences",
        "2",
        "--seed",
        "0",
        "--shown",
        "2",
    ],
    "inspect": ["uniform", "--task", "mtd-q3-m2", "--length", "16", "--n-sequences", "2", "--out", "i.html"],
    "baseline validate": [
        "--method",
        "exact",
        "--task",
        "mtd-q3-m2",
        "--length",
        "8",
        "--n-sequences",
        "x",
        "--n-simulations",
        "2",
        "--seed",
        "0",
        "--out",
        "v.html",
    ],
    "posterior": [
        "--transition",
        "pi.csv",
        "--sequences",
        "s.csv",
        "--order",
        "2",
        "--concentration",
        "1",
        "--method",
        "urn",
        "--out",
        "p.nc",
        "--states",
        "A,B",
        "--first-state",
        "0",
    ],
    "fit": ["--data", "s.csv", "--order", "2", "--start", "2", "--states", "0,1", "--out", "f"],
    "new-predictor": ["mine", "--framework", "numpy"],
}


@given(st.sampled_from(sorted(COMMANDS)), st.data())
def test_options(attempt, command, data):
    """One or two arguments of each command are anything."""
    arguments = list(COMMANDS[command])
    for _ in range(data.draw(st.integers(1, 2))):
        at = [k for k, argument in enumerate(arguments) if not argument.startswith("--")]
        given_ = data.draw(st.one_of(tokens, tokens, st.text(max_size=20)))
        if at and data.draw(st.integers(0, 9)):
            arguments[data.draw(st.sampled_from(at))] = given_
        else:
            arguments.append(given_)
    files = {"pi.csv": b"0.75,0.25\n0.35,0.65\n", "s.csv": b"0,1,1,0,1\n"}
    attempt(*command.split(), *arguments, files=files)
