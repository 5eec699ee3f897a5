"""The command line: arguments in, tables out. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from mdbench.errors import InputError, PredictorError, origin, unknown_name

app = typer.Typer(
    help="The benchmark suite for in-context inference in sequence models.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

baseline_app = typer.Typer(help="Posterior methods: how far they can be trusted.", no_args_is_help=True)
app.add_typer(baseline_app, name="baseline")
leaderboard_app = typer.Typer(help="Records to rankings.", no_args_is_help=True)
app.add_typer(leaderboard_app, name="leaderboard")

Task = Annotated[list[str] | None, typer.Option("--task", help="Task name or task file (.toml); repeat for several.")]
Lengths = Annotated[str | None, typer.Option("--lengths", help="Context lengths, separated by commas.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Device = Annotated[str, typer.Option("--device", help="torch device: cpu, cuda, ...")]
Gold = Annotated[
    str | None,
    typer.Option("--gold", help="Baseline to measure against, exact or passing its gates; the family's own if none."),
]
Suite = Annotated[str | None, typer.Option("--suite", help="Suite of tasks; core if neither this nor --task is given.")]
NSequences = Annotated[int, typer.Option("--n-sequences", help="Sequences for each task and length.")]
Leaderboard = Annotated[Path, typer.Option("--leaderboard", help="Folder of the leaderboard: records/, index.html.")]
Reference = Annotated[
    str | None, typer.Option("--reference", help="With --record: a paper or DOI that the row refers to.")
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Compute all anew: what other commands kept in the cache does not count.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the sequences.")]


def main() -> None:
    """Entry point: 2 for wrong usage, 1 for a failed run, one sentence on stderr for each."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("mdbench").setLevel(logging.INFO)
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="mdbench", standalone_mode=False)
    except InputError as error:
        _fail(str(error), 2)
    except (PredictorError, FloatingPointError, ChildProcessError) as error:
        _fail(str(error), 1)
    except BrokenPipeError:  # whoever read the output has enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if not hasattr(error, "format_message"):  # the exceptions of Typer's own command line have it
            raise
        _fail(error.format_message(), 2)
    if code == 130:  # what Typer makes of Ctrl-C
        _fail("interrupted.", 130)
    sys.exit(code)


def _fail(sentence: str, code: int) -> NoReturn:
    print(f"mdbench: {sentence}", file=sys.stderr)
    sys.exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"mdbench {version('mdbench')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def evaluate(
    predictor: Annotated[
        list[str], typer.Option("--predictor", help="Name, or name:option=value,option=value; repeat for several.")
    ],
    task: Task = None,
    suite: Suite = None,
    lengths: Lengths = None,
    n_sequences: Annotated[
        int | None,
        typer.Option(
            "--n-sequences", help="Sequences for each task and length; 1024, or with --record all public ones."
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    gold: Gold = None,
    references: Annotated[
        bool | None,
        typer.Option(
            "--references/--no-references",
            help="Also score rows that suit the task, such as bayes and uniform; not with --record, unless asked for.",
        ),
    ] = None,
    as_json: Json = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
    per_sequence: Annotated[Path | None, typer.Option(help="Write every sequence's scores (.csv or .parquet).")] = None,
    record: Annotated[bool, typer.Option("--record", help="Also write records for the leaderboard.")] = False,
    reference: Reference = None,
    leaderboard: Leaderboard = Path("leaderboard"),
    isolate: Annotated[
        bool | None,
        typer.Option(
            "--isolate/--no-isolate",
            help="Run the predictors in processes of their own; what --record does if one is not built in.",
        ),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="With --isolate: seconds for building it, and for 256 contexts (600).")
    ] = None,
    memory_limit: Annotated[float | None, typer.Option(help="With --isolate: GiB of memory (8).")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder that keeps what is finished: the same command goes on there.")
    ] = None,
    no_cache: NoCache = False,
) -> None:
    """Score predictors against the exact posterior, or another gold."""
    from mdbench.files import check_writable, make_folder, write_text, write_whole

    for path in (out, per_sequence):
        if path is not None:
            check_writable(path)
    if per_sequence is not None and per_sequence.suffix not in (".csv", ".parquet"):
        raise InputError(f"--per-sequence writes .csv or .parquet, not '{per_sequence}'.")

    from mdbench import evaluation, registry, report
    from mdbench.isolation import Limits

    if isolate is None:
        isolate = record and not all(registry.is_built_in(p) for p in predictor)
    if not isolate and (time_limit, memory_limit) != (None, None):
        raise InputError("--time-limit and --memory-limit are for processes of their own; add --isolate.")
    _check_reference(reference, record)
    limits = Limits(600 if time_limit is None else time_limit, 8 if memory_limit is None else memory_limit)
    if record:
        from mdbench import records

        make_folder(leaderboard)
        n_sequences = records.N_PUBLIC if n_sequences is None else n_sequences
        grid = evaluation.grid(task, suite, _whole_numbers(lengths, "--lengths"))
        most = max(len(of_task) for _, of_task in grid)
        records.check_recordable([task_ for task_, _ in grid], most, n_sequences, seed, gold, predictor)
    with report.progress_bars() as progress:
        found = evaluation.evaluate(
            predictor,
            task=task,
            suite=suite,
            lengths=_whole_numbers(lengths, "--lengths"),
            n_sequences=1024 if n_sequences is None else n_sequences,
            seed=seed,
            device=device,
            references=None if references or (references is None and not record) else (),
            gold=gold,
            isolate=limits if isolate else None,
            work=work,
            cache="none" if no_cache else "all",
            progress=progress,
            done=None if as_json else lambda part: report.print_evaluation(part, predictor, progress),
        )
    if per_sequence is not None:
        frame = found.per_sequence
        write = frame.to_csv if per_sequence.suffix == ".csv" else frame.to_parquet
        write_whole(per_sequence, lambda temporary: write(temporary, index=False))
    if record:
        for path in records.record_evaluation(found, predictor, leaderboard, device, reference):
            print(f"mdbench: wrote '{path}'.", file=sys.stderr)
    if out is not None:
        write_text(out, found.to_json() + "\n")
    if as_json:
        print(found.to_json())
    else:
        report.print_notes(found)
    if found.failed:
        names = ", ".join(dict.fromkeys(f"'{f.predictor}'" for f in found.failed))
        _fail(f"{names} failed; the others have been scored.", 1)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A predictor, as name or name:option=value,option=value.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    task: Task = None,
    suite: Suite = None,
    lengths: Lengths = None,
    n_sequences: NSequences = 1024,
    seed: Seed = 0,
    device: Device = "cpu",
    gold: Gold = None,
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Compare two predictors by the paired difference of their excess KL."""
    from mdbench import evaluation, report

    with report.progress_bars() as progress:
        found = evaluation.compare(
            a,
            b,
            task=task,
            suite=suite,
            lengths=_whole_numbers(lengths, "--lengths"),
            n_sequences=n_sequences,
            seed=seed,
            device=device,
            gold=gold,
            cache="none" if no_cache else "all",
            progress=progress,
        )
    if as_json:
        print(evaluation.as_json(found))
    else:
        report.print_comparisons(found)


@app.command()
def check(
    predictor: Annotated[str, typer.Argument(help="Name, name:option=value or path/to/file.py:function.")],
    task: Annotated[str, typer.Option("--task", help="Task name or task file (.toml).")] = "mtd-q3-m2",
    lengths: Lengths = None,
    device: Device = "cpu",
    time_limit: Annotated[
        float,
        typer.Option(help="Of the fresh process that it runs in first: seconds for building it, and for a batch."),
    ] = 600,
    as_json: Json = False,
) -> None:
    """Hold a predictor to its contract; exit code 1 if a check fails."""
    from mdbench import contract, report
    from mdbench.isolation import Limits

    with report.progress_bars() as progress:
        found = contract.check(
            predictor,
            task,
            _whole_numbers(lengths, "--lengths"),
            device=device,
            limits=Limits(time_limit),
            progress=progress(f"{predictor}: checks", len(contract.CLAUSES)),
        )
    if as_json:
        print(json.dumps(contract.as_dicts(found), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        report.print_checks(predictor, found)
    failed = [c.name for c in found if c.verdict == contract.FAIL]
    if failed:
        _fail(f"'{predictor}' breaks the contract: {', '.join(failed)}.", 1)


@app.command("new-predictor")
def new_predictor(
    name: Annotated[str, typer.Argument(help="Name of the predictor: small letters, digits, underscores.")],
    framework: Annotated[str, typer.Option(help="numpy, jax or torch.")] = "numpy",
) -> None:
    """Write a complete package for a predictor of your own, which works as it is: the folder NAME."""
    from mdbench import scaffold

    folder = scaffold.new_predictor(name, framework)
    print(f"Wrote {folder}. Next: pip install -e {folder}, mdbench check {name}, mdbench evaluate --predictor {name}")


@app.command()
def verify(
    record: Annotated[
        list[Path] | None, typer.Argument(help="Records (.json); all of the leaderboard's if none.")
    ] = None,
    leaderboard: Leaderboard = Path("leaderboard"),
    again: Annotated[
        bool, typer.Option("--rerun", help="Run the predictor on fresh sequences: are its scores compatible?")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="With --rerun: seed of the fresh sequences; at random if none, and printed.")
    ] = None,
    n_sequences: Annotated[int, typer.Option("--n-sequences", help="With --rerun: fresh sequences a cell.")] = 256,
    run_files: Annotated[
        bool,
        typer.Option("--run-files", help="With --rerun: run predictors whose name is a path, too."),
    ] = False,
    mark: Annotated[
        bool,
        typer.Option(
            "--mark",
            help="With --rerun, for the keeper of a board: write what came of it to reruns.json, which the board "
            "shows, and leave out records that are marked there already.",
        ),
    ] = False,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Check records: score their probabilities again, or run their predictors again; exit code 1 if one fails."""
    from mdbench import marks, records, report
    from mdbench.files import check_writable

    if mark and not again:
        raise InputError("--mark writes down what --rerun finds; give both.")
    paths = record or records.record_paths(leaderboard)
    if mark:
        marks.check_markable(paths, leaderboard, n_sequences)
        check_writable(leaderboard / marks.FILE)
    marked = marks.read_marks(leaderboard) if mark else {}
    if not paths:
        raise InputError(f"there are no records in '{leaderboard / 'records'}'; name one, or make one with --record.")
    verdicts: list[dict[str, Any]] = []
    more: dict[str, Any]
    how: dict[str, Any] = {"n_sequences": n_sequences, "files": run_files, "device": device}
    if again:
        seed = secrets.randbelow(2**63 - 1) + 1 if seed is None else seed  # whoever knows the seed knows the sequences
        print(f"mdbench: fresh sequences of seed {seed}.", file=sys.stderr)
    with report.progress_bars() as progress:
        for path in paths:
            try:
                if again and path.is_file() and marks.digest_of(path) in marked:
                    before = marked[marks.digest_of(path)]
                    faults = [] if before.compatible else [str(before)]
                    more = {"marked": str(before)}
                elif again:
                    if mark:
                        found = marks.rerun_marked(leaderboard, path, seed or 0, progress=progress, **how)
                    else:
                        found = records.rerun(path, seed or 0, progress=progress, **how)
                    faults = [str(r) for r in found if not r.compatible]
                    more = {"rerun": [r.to_dict() for r in found]}
                else:
                    faults, more = records.verify(path, progress, in_place=not record), {}
            except records.CannotRerun as error:
                verdicts.append({"record": str(path), "verdict": "cannot be rerun", "faults": [str(error)]})
                continue
            except (InputError, PredictorError) as error:
                faults, more = [str(error)], {}
            verdicts.append({"record": str(path), "verdict": "fail" if faults else "pass", "faults": faults} | more)
    if as_json:
        print(json.dumps(verdicts, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        report.print_verdicts(verdicts)
    failed = sum(v["verdict"] == "fail" for v in verdicts)
    if failed:
        _fail(f"{failed} of {len(verdicts)} records do not hold.", 1)


@app.command()
def score(
    predictions: Annotated[
        Path, typer.Option(help=".npz with an array (N, q) called T<length> for each length, or .csv.")
    ],
    task: Annotated[str, typer.Option("--task", help="Name of a built-in task.")],
    name: Annotated[str, typer.Option(help="What to call the row.")],
    record: Annotated[bool, typer.Option("--record", help="Also write a record for the leaderboard.")] = False,
    reference: Reference = None,
    leaderboard: Leaderboard = Path("leaderboard"),
    as_json: Json = False,
) -> None:
    """Score predictions that were made elsewhere, in any language, for the public sequences (`sample`, seed 0)."""
    from mdbench import evaluation, records, report, tasks
    from mdbench.files import make_folder

    _check_reference(reference, record)
    folder = make_folder(leaderboard) if record else None
    with report.progress_bars() as progress:
        found, path = records.score_predictions(predictions, tasks.load_task(task), name, folder, progress, reference)
    if path is not None:
        print(f"mdbench: wrote '{path}'.", file=sys.stderr)
    if as_json:
        print(evaluation.as_json(found))
    else:
        report.print_results(found, highlighted=[name])


@app.command()
def inspect(
    predictor: Annotated[str, typer.Argument(help="A transformer: trained_*, standard_*, constructed_*, run:FOLDER.")],
    task: Annotated[str, typer.Option("--task", help="Task name or task file (.toml).")] = "mtd-q5-m3",
    length: Annotated[int, typer.Option("--length", help="Context length.")] = 32,
    out: Annotated[Path | None, typer.Option(help="Folder for the page, inspection.html.")] = None,
    n_sequences: Annotated[int, typer.Option(help="Sequences to average over.")] = 512,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Look inside a transformer: its parts beside those of the construction."""
    from mdbench import inspection, report
    from mdbench.files import check_writable, make_folder, write_text

    page = None if out is None else make_folder(out) / "inspection.html"
    if page is not None:
        check_writable(page)
    found = inspection.inspect(predictor, task=task, length=length, n_sequences=n_sequences, seed=seed, device=device)
    if page is not None:
        from mdbench.inspection_page import render

        write_text(page, render(found, _this_command()))
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        report.print_inspection(found)
        if page is not None:
            report.print_line(f"The page is '{page}'.")


@app.command()
def identify(
    predictor: Annotated[str, typer.Argument(help="A predictor, as name or name:option=value,option=value.")],
    task: Annotated[str, typer.Option("--task", help="Task name or task file (.toml).")] = "mtd-q5-m3",
    lengths: Annotated[
        str, typer.Option("--lengths", help="Context lengths, separated by commas; three show how steps move.")
    ] = "32",
    n_sequences: Annotated[int, typer.Option(help="Sequences to fit on, and as many others to judge.")] = 1024,
    seed: Seed = 0,
    device: Device = "cpu",
    shown: Annotated[int, typer.Option(help="Rows of the ranking to show.")] = 8,
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Which algorithm is this predictor running? Known ones are fitted to its predictions."""
    from mdbench import identification, report

    with report.progress_bars() as progress:
        found = identification.identify(
            predictor,
            task=task,
            lengths=_whole_numbers(lengths, "--lengths") or [],
            n_sequences=n_sequences,
            seed=seed,
            device=device,
            cache="none" if no_cache else "all",
            progress=progress,
        )
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        report.print_identification(found, shown)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List tasks, suites, predictors, baselines, families of tasks and scores."""
    from mdbench import registry, report, scores, tasks

    suites = {name: tasks.load_suite(name) for name in tasks.suite_names()}
    listing = {
        "tasks": {name: tasks.load_task(name).summary for name in tasks.task_names()}
        | {name: origin(point) for name, point in tasks.plugin_tasks().items() if name not in tasks.task_names()},
        "suites": {name: f"{', '.join(s.tasks)} at {', '.join(map(str, s.lengths))}" for name, s in suites.items()},
        "predictors": {name: entry.summary for name, entry in registry.predictor_entries().items()},
        "baselines": {name: entry.summary for name, entry in registry.baseline_entries().items()},
        "families": tasks.family_names(),
        "scores": scores.score_names(),
    }
    if as_json:
        print(json.dumps(listing, indent=1, ensure_ascii=False))
        return
    for kind, entries in listing.items():
        report.print_table(kind, ("name", "what it is"), list(entries.items()))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A task (or task file), suite, predictor, baseline, family or score.")],
    as_json: Json = False,
) -> None:
    """Show what a name means."""
    import inspect

    from mdbench import registry, report, scores, tasks

    predictors, baselines = registry.predictor_entries(), registry.baseline_entries()
    details: dict[str, Any]
    if name.endswith(".toml") or name in [*tasks.task_names(), *tasks.plugin_tasks()]:
        task = tasks.load_task(name)
        details = {
            "kind": "task",
            "name": task.name,
            "model": task.family,
            "n_states": task.n_states,
            "lengths": list(task.lengths),
            "version": task.version,
            "task_hash": task.task_hash,
        } | task.described()
    elif name in tasks.suite_names():
        suite = tasks.load_suite(name)
        details = {"kind": "suite", "name": suite.name, "tasks": list(suite.tasks), "lengths": list(suite.lengths)}
    elif name in baselines:
        details = {"kind": "baseline and predictor", "name": name} | registry.describe(baselines[name])
    elif name in predictors:
        details = {"kind": "predictor", "name": name} | registry.describe(predictors[name])
    elif name in tasks.family_names():
        family = tasks.load_family(name)
        details = {"kind": "family of tasks", "name": name, "what": family.kind, "doc": inspect.getdoc(family) or ""}
    elif name in scores.score_names():
        details = {"kind": "score", "name": name, "what": scores.all_scores()[name].about}
    else:
        named = [*tasks.task_names(), *tasks.plugin_tasks(), *tasks.suite_names(), *predictors, *baselines]
        raise unknown_name(
            "task, suite, predictor, baseline, family or score",
            name,
            [*named, *tasks.family_names(), *scores.score_names()],
        )
    if as_json:
        print(json.dumps(details, indent=1, ensure_ascii=False))
    elif details["kind"] == "task":
        report.print_task(name)
    else:
        for key, value in details.items():
            if value:
                print(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


@app.command()
def sample(
    task: Annotated[str, typer.Option("--task", help="Task name or task file (.toml).")],
    n_sequences: Annotated[int, typer.Option(help="How many sequences.")],
    length: Annotated[int, typer.Option(help="Length of the contexts; one more token is drawn.")],
    out: Annotated[Path, typer.Option(help="File to write (.npz).")],
    seed: Seed = 0,
) -> None:
    """Write the very sequences that `evaluate` scores for the same task, number and seed."""
    from mdbench.files import check_writable, write_whole

    check_writable(out)
    if out.suffix != ".npz":
        raise InputError(f"--out writes .npz, not '{out}'.")

    import numpy as np

    from mdbench import tasks

    loaded = tasks.load_task(task)
    drawn = tasks.sample(loaded, length, n_sequences, seed)
    numbers = {name: value for name, value in loaded.numbers.items() if isinstance(value, np.ndarray)}
    drawn_arrays = {"tokens": drawn.tokens, loaded.theta: drawn.theta, "next_probs": drawn.next_probs}
    arrays: dict[str, Any] = drawn_arrays | numbers
    write_whole(out, lambda temporary: np.savez(temporary, **arrays))


@app.command()
def posterior(
    transition: Annotated[Path, typer.Option(help="CSV of π: q rows of q numbers.")],
    order: Annotated[int, typer.Option(help="m, the number of lags.")],
    sequences: Annotated[Path, typer.Option(help="CSV, one sequence a line: states 0..q-1 separated by commas.")],
    concentration: Annotated[float, typer.Option(help="α of the Dirichlet prior on the weights.")] = 1.0,
    method: Annotated[
        str, typer.Option(help="A baseline (`mdbench list`), as name or name:option=value,option=value.")
    ] = "exact",
    prefixes: Annotated[bool, typer.Option("--prefixes", help="Also the posterior mean after every prefix.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the draws as ArviZ data (.nc).")] = None,
    as_json: Json = False,
) -> None:
    """Posterior of the mixture weights for your own sequences; exit code 1 if one fails its gates."""
    from mdbench import posteriors, report

    pi, rows = posteriors.read_transition(transition), posteriors.read_sequences(sequences)
    with report.progress_bars() as progress:
        found = posteriors.posterior(
            pi,
            order,
            rows,
            concentration=concentration,
            method=method,
            prefixes=prefixes,
            out=out,
            progress=progress("posterior", len(rows)),
        )
    if as_json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        report.print_posterior(found)
    failing = [k for k, s in enumerate(found["sequences"], 1) if any(c["verdict"] == "fail" for c in s["checks_made"])]
    if failing:
        _fail(f"{len(failing)} of {len(found['sequences'])} sequences fail a gate, also when run again longer.", 1)


@app.command()
def train(
    task: Annotated[str, typer.Option("--task", help="Task name or task file (.toml).")],
    lengths: Annotated[str, typer.Option("--lengths", help="Context lengths, separated by commas.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs OUT/<task>/T<length>/seed<seed>.")],
    preset: Annotated[
        str,
        typer.Option(
            help="paper (squared error against the next token, 500,000 steps), cross-entropy (the same, that loss), "
            "conditional (against the true next-token probabilities) or bayes (against the exact posterior's)."
        ),
    ] = "bayes",
    model: Annotated[str, typer.Option(help="disentangled or standard.")] = "disentangled",
    depth: Annotated[int, typer.Option(help="Number of layers.")] = 3,
    d_rel: Annotated[
        int | None, typer.Option("--d-rel", help="Width of a disentangled model's relative-position values (16).")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Of a standard model's residual stream (64).")] = None,
    heads: Annotated[int | None, typer.Option(help="Of a standard model's attention (4).")] = None,
    target: Annotated[str | None, typer.Option(help="token, conditional or bayes; instead of the preset's.")] = None,
    loss: Annotated[str | None, typer.Option(help="squared_error or cross_entropy; likewise.")] = None,
    schedule: Annotated[str | None, typer.Option(help="constant, cosine or restarts; likewise.")] = None,
    steps: Annotated[int | None, typer.Option(help="Adam steps; likewise.")] = None,
    batch: Annotated[int | None, typer.Option(help="Sequences a step; likewise.")] = None,
    reuse: Annotated[int | None, typer.Option(help="Steps that each sequence serves; likewise.")] = None,
    start_length: Annotated[
        int | None,
        typer.Option(help="Length of the contexts in the first half of the steps (0: the full one); likewise."),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(help="Initialisations tried for each seed; likewise."),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Folder with finished runs seed<k> to go on from: the same kind of model, no more layers, no longer "
            "contexts. What the preset says of --start-length and --candidates does not count then."
        ),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's, at the start; instead of the preset's.")] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Of initialisation and sequences, separated by commas; trained side by side.")
    ] = "0",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train transformers; the same command goes on where it was interrupted."""
    from mdbench import report, tasks, training
    from mdbench.training_config import preset_config

    loaded = tasks.load_task(task)
    given: dict[str, Any] = {"model": model, "depth": depth, "width": width, "heads": heads, "target": target}
    given |= {"loss": loss, "schedule": schedule, "steps": steps, "batch": batch, "reuse": reuse}
    given |= {
        "start_length": start_length,
        "candidates": candidates,
        "d_rel": d_rel,
        "learning_rate": learning_rate,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    wanted = _whole_numbers(lengths, "--lengths") or []
    configs = [preset_config(preset, length, started=start_from is not None, **changes) for length in wanted]
    of_seeds = _whole_numbers(seeds, "--seeds") or []
    folders = [out / loaded.name / f"T{config.length}" for config in configs]
    for config, folder in zip(configs, folders, strict=True):  # before the first of them has taken its hours
        training.check_training(loaded, config, folder, seeds=of_seeds, device=device, start_from=start_from)
    for config, folder in zip(configs, folders, strict=True):
        try:
            with report.progress_bars() as progress:
                advance = progress(f"{loaded.name}, T = {config.length}: steps", config.steps)
                for run in training.train(
                    loaded,
                    config,
                    folder,
                    seeds=of_seeds,
                    device=device,
                    start_from=start_from,
                    progress=advance,
                ):
                    print(run)
        except KeyboardInterrupt:
            _fail(f"interrupted; the same command goes on from the last checkpoint in '{folder}'.", 130)


@app.command()
def tune(
    task: Task = None,
    lengths: Lengths = None,
    steps: Annotated[
        str | None, typer.Option(help="Numbers of Mirror Descent's steps, separated by commas (without either: 1,2,5).")
    ] = None,
    depths: Annotated[
        str | None, typer.Option(help="Numbers of layers of constructed transformers, likewise (4,5,7).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Table (JSON) to store them in; by default where they are looked up.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tune step sizes and constructed transformers' scalars anew on calibration sequences and store them."""
    from mdbench import report, tasks
    from mdbench.files import check_writable
    from mdbench.predictors import tuning

    every_length = sorted({length for name in tasks.suite_names() for length in tasks.load_suite(name).lengths})
    if steps is None and depths is None:
        steps, depths = "1,2,5", "4,5,7"
    wanted = [tuning.Wanted("eta", k) for k in _whole_numbers(steps, "--steps") or []]
    wanted += [tuning.Wanted("scalars", depth) for depth in _whole_numbers(depths, "--depths") or []]
    names = task or tasks.task_names()
    table = out or (tuning.SHIPPED if set(names) <= set(tasks.task_names()) else None)
    if table is not None:
        check_writable(table)
    rows = []
    for name in names:
        loaded = tasks.load_task(name)
        if not isinstance(loaded, tasks.DirichletMixture):
            raise InputError(f"tuned numbers are of {tasks.DirichletMixture.kind}; '{name}' is {loaded.kind}.")
        at = _whole_numbers(lengths, "--lengths") or (every_length if name in tasks.task_names() else loaded.lengths)
        for length in at:
            loaded.check_length(length)
        with report.progress_bars() as progress:
            found = tuning.tune(loaded, at, wanted, progress(f"{loaded.name}: tuned values", len(at) * len(wanted)))
        if table is not None:
            tuning.store(table, loaded, found)
        else:
            for (what, length), value in found.items():
                tuning.cache(loaded, what, length, value)
        for (what, length), value in found.items():
            number = {"eta": "steps", "scalars": "depth"}[what.kind]
            rows.append({"task": loaded.name, "length": length, number: what.number, what.kind: value})
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        report.print_tuned(rows)


@baseline_app.command()
def validate(
    task: Task = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="Baseline; repeat for several, all if none.")
    ] = None,
    length: Annotated[int, typer.Option(help="T of the runs against the exact posterior.")] = 64,
    n_sequences: Annotated[int, typer.Option(help="Sequences of these.")] = 256,
    calibration_length: Annotated[int, typer.Option(help="T of the simulation-based calibration.")] = 32,
    n_simulations: Annotated[int, typer.Option(help="Simulations of it.")] = 1000,
    seed: Seed = 0,
    no_cache: NoCache = False,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report: validation.html and validation.json.")
    ] = None,
) -> None:
    """Every posterior method against the exact one, and simulation-based calibration; exit code 1 if one fails."""
    from mdbench import report, validation
    from mdbench.files import check_writable, make_folder, write_text

    targets = {} if out is None else {kind: out / f"validation.{kind}" for kind in ("html", "json")}
    if out is not None:
        make_folder(out)
    for path in targets.values():
        check_writable(path)
    with report.progress_bars() as progress:
        found = validation.validate(
            tasks=task,
            methods=method,
            length=length,
            n_sequences=n_sequences,
            calibration_length=calibration_length,
            n_simulations=n_simulations,
            seed=seed,
            cache=not no_cache,
            progress=progress,
        )
    if targets:
        from mdbench.validation_page import render

        write_text(targets["json"], found.to_json() + "\n")
        write_text(targets["html"], render(found, _this_command()))
    if as_json:
        print(found.to_json())
    else:
        report.print_validation(found)
    if found.failures:
        names = ", ".join(f"{v.method} on {v.task}" for v in found.failures)
        _fail(f"these methods did not pass: {names}.", 1)


@leaderboard_app.command()
def build(
    leaderboard: Leaderboard = Path("leaderboard"),
    suite: Annotated[str, typer.Option("--suite", help="Suite of tasks.")] = "core",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 if what is there is not what would be written.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Rank the records of a folder: index.html, README.md, board.csv and the schema of records beside them."""
    from mdbench import board, board_page, records, report
    from mdbench.files import check_writable, write_text

    command = "mdbench leaderboard build" + ("" if suite == "core" else f" --suite {suite}")
    with report.progress_bars() as progress:
        found = board.build(leaderboard, suite, progress)
    files = {
        leaderboard / "index.html": board_page.render_html(found, command),
        leaderboard / "README.md": board_page.render_markdown(found, command),
        leaderboard / "board.csv": board_page.render_csv(found),
        leaderboard / "record.schema.json": records.json_schema() + "\n",
    }
    stale = [str(path) for path, text in files.items() if not path.is_file() or path.read_bytes() != text.encode()]
    if not check:
        for path in files:
            check_writable(path)
        for path, text in files.items():
            write_text(path, text)
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        report.print_board(found)
    for refused in found.refused:
        print(f"mdbench: refused '{refused.path}': {refused.reason}", file=sys.stderr)
    if check and stale:
        _fail(f"not up to date: {', '.join(stale)}; run `{command}` and commit what it writes.", 1)


@leaderboard_app.command("time")
def time_(
    leaderboard: Leaderboard = Path("leaderboard"),
    run_files: Annotated[bool, typer.Option("--run-files", help="Run predictors whose name is a path, too.")] = False,
) -> None:
    """Time all rows that can be run, beside one fixed computation: times.json. The same command goes on there."""
    from mdbench import report, times
    from mdbench.records import CannotRerun

    failed = 0
    with report.progress_bars() as progress:
        for record, found in times.time_records(leaderboard, run_files, progress):
            where = f"{record.predictor.label} on {record.task}"
            if isinstance(found, times.Time):
                report.print_line(f"{where}: {found.mean:.3g} times the reference")
            else:
                report.print_line(f"{where}: not timed: {found}")
                failed += not isinstance(found, CannotRerun)
    if failed:
        _fail(f"{failed} records could not be timed.", 1)


def _this_command() -> str:
    """For a page that says how it was made."""
    return "mdbench " + " ".join(argument for argument in sys.argv[1:] if argument != "--json")


def _check_reference(reference: str | None, record: bool) -> None:
    """Before anything runs."""
    from mdbench.names import check_reference

    if reference is not None:
        check_reference(reference)
        if not record:
            raise InputError("--reference is written into a record; add --record.")


def _whole_numbers(text: str | None, option: str) -> list[int] | None:
    if text is None:
        return None
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"{option} takes whole numbers separated by commas, as in 1,2,16, not '{text}'.") from None
