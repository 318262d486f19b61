"""``flowtts pull``: published weights from the model hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowtts.commands.options import Json, output_folder
from flowtts.commands.terminal import terminal


def pull(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="encodec-24khz, mimi …: `flowtts models` lists them.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="For its files; else one where its name finds them.")
    ] = None,
    json: Json = False,
) -> None:
    """Fetch published weights. No other verb touches the network."""
    if to is not None:
        output_folder(to)

    from flowtts import pull as hub

    found = hub.pull(name, to)
    term = terminal(ctx)
    if json:
        term.result(
            {
                "name": found.name,
                "folder": found.folder,
                "fetched": found.fresh,
                "repository": found.published.repository,
                "revision": found.published.revision,
                "licence": found.published.licence,
                "bytes": found.bytes,
            }
        )
    else:
        already = "" if found.fresh else " (was there already)"
        term.message(
            f"{found.folder}: {found.name} of {found.published.repository}, {found.bytes / 1e6:.1f} MB{already}; "
            f"licence {found.published.licence}"
        )
