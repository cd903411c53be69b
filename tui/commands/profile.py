"""`profile list | show | check | schema`: the profiles that come with the program, and checking one's own."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tui import output

app = typer.Typer(help="Profiles: list the shipped ones, show, check, schema for editors.", no_args_is_help=False)

Reference = Annotated[str, typer.Argument(metavar="PROFILE", help="A TOML file, or the name of a shipped profile.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in step.0.sparsity=0.6; repeatable."),
]


@app.command("list")
def list_profiles(as_json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False) -> None:
    """List the shipped profiles."""
    from engine import profile

    files = {file.stem: file for file in profile.shipped()}
    entries = {name: profile.load(str(file.path)).description for name, file in files.items()}
    records = (
        json.dumps({"name": name, "description": text, "path": str(files[name].path)}) for name, text in entries.items()
    )
    for line in records if as_json else output.listing(entries):
        output.data(line)


@app.command()
def show(
    reference: Reference,
    resolved: Annotated[bool, typer.Option("--resolved", help="With every default written out.")] = False,
) -> None:
    """Print a profile."""
    from engine import profile

    text = profile.dump(profile.load(reference)) if resolved else profile.find(reference).text()
    output.data(text.rstrip("\n"))


@app.command()
def check(reference: Reference, overrides: Overrides = None) -> None:
    """Check a profile; every problem is shown at once."""
    from engine import beforehand, profile

    checked = profile.load(reference, overrides or [])
    beforehand.check(checked)
    steps = " > ".join(step.use for step in checked.step) or "no steps"
    output.data(f"{checked.name}: ok ({steps})")


@app.command()
def schema() -> None:
    """Print the JSON schema of profiles, for editors."""
    from engine import profile

    output.data(json.dumps(profile.schema(), indent=2))
