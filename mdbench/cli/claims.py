"""What is claimed, and whether it holds: reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mdbench.cli.app import Device, Json, NoCache, OnCluster, app, cache_of, emit, say, this_command


@app.command()
def reproduce(
    claims: Annotated[list[str] | None, typer.Argument(help="Claims (--list has them); all if none.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for claims.json, claims.md, and each claim's figure and numbers; written after each claim."
        ),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="One task, fewer sequences: minutes.")] = False,
    margin: Annotated[
        float, typer.Option(help="Two predictors are equal if their ratio is within 1/(1 + MARGIN) .. 1 + MARGIN.")
    ] = 0.25,
    listed: Annotated[
        bool, typer.Option("--list", help="What is claimed, by whom, and the rules; nothing runs.")
    ] = False,
    device: Device = "cpu",
    cluster: OnCluster = None,
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Whether the paper's claims and ours hold, each by an experiment with a rule, as verdicts and figures."""
    from mdbench.claims import reproduction
    from mdbench.claims.catalogue import claims_of
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    if listed:
        known = claims_of(claims or ())
        as_rows = [
            {"claim": n, "statement": c.statement, "source": c.source, "rule": reproduction.rule_of(c)}
            for n, c in known.items()
        ]
        emit(as_json, lambda: as_rows, lambda: terminal.print_claims(known))
        return
    writer: Any = None
    if out is not None:
        from mdbench.pages.claims import Writer

        reproduction.check(claims or (), margin, device)  # what cannot be makes no folder
        writer = Writer(out, this_command())
    found = []
    with progress_bars() as progress:
        for each in reproduction.reproduce(
            claims or (),
            fast=fast,
            margin=margin,
            device=device,
            cache=cache_of(no_cache),
            cluster=cluster,
            progress=progress,
        ):
            found.append(each)
            say(f"{each.name}: {each.finding.verdict} ({each.seconds:.0f} s).")
            if writer is not None:
                writer.add(each, fast)
    emit(as_json, lambda: [each.to_dict() for each in found], lambda: terminal.print_reproduced(found))
