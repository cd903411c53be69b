"""The Prompts screen: the A/B table of prompts, one in full, the race, and the examples on which two differ."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import DataTable, Static

from engine.errors import UsageError
from engine.state import RunState
from tui import actions, exporting
from tui.follow import Follower
from tui.resident import pair, place
from tui.screens import saving
from tui.screens.base import WorkScreen
from tui.screens.dialogs import Reader
from tui.widgets import candidates, examples, grid
from tui.widgets.pane import Pane
from tui.widgets.race import bracket
from tui.widgets.table import LiveTable
from tui.widgets.typed import Scroll

NONE_YET = (
    "No prompts yet.\n\nThey appear when the run reaches a step that chooses prompts.\n\n{run}  see how far it is"
)
NEVER_ANY = (
    "No prompts.\n\nThe run ended before a step that chooses prompts (select_prompt, say), or has none.\n\n"
    "{run}  see where it ended\n{profiles}  choose a profile with such a step, or add one"
)
NO_EXAMPLES = "Each test row with both prompts' answers appears here when the step has tested its prompts."
NEVER_TESTED = "The run ended before its prompts were tested."
SOFT = re.compile(r"<\d+ \w+ tokens>")


class PromptsScreen(WorkScreen):
    """Mode 3."""

    scope: ClassVar[str] = "prompts"
    needs_run: ClassVar[bool] = True
    BINDINGS = actions.bindings("prompts")

    def __init__(self) -> None:
        super().__init__()
        self.which = examples.DIFFERENT
        self.examples: list[dict[str, Any]] = []
        self._read: tuple[object, ...] = ()

    def compose_body(self) -> Iterator[Widget]:
        with Vertical(classes="column", id="table-column"):
            yield Pane(
                LiveTable(candidates.COLUMNS, widget_id="candidates"),
                title="Prompts",
                widget_id="table-pane",
                side=True,
            )
        with Vertical(classes="column", id="detail-column"):
            yield Pane(Scroll(Static(id="detail")), title="Prompt", widget_id="detail-pane")
            yield Pane(LiveTable(examples.COLUMNS, widget_id="examples"), title="Examples", widget_id="examples-pane")
            table = LiveTable(grid.COLUMNS, widget_id="grid")
            yield Pane(table, title="Levels", widget_id="grid-pane", needed=False)
            yield Pane(Scroll(Static(id="race")), title="Race", widget_id="race-pane")

    @property
    def home(self) -> Pane:
        return self.query_one("#table-pane", Pane)

    def empty_text(self) -> str | None:
        missing = super().empty_text()
        if missing is None and self.tui.follower and not self.tui.follower.state.candidates:
            return self.keys.markup(NEVER_ANY if self.tui.follower.state.finished else NONE_YET)
        return missing

    def new_run(self, follower: Follower) -> None:
        self.examples, self._read = [], ()

    def show_state(self, state: RunState) -> None:
        table = self.query_one("#candidates", LiveTable)
        table.show(candidates.rows(state))
        self._show_race(state)
        self._show_grid(state)
        left = sum(candidate.alive for candidate in state.candidates.values())
        base = candidates.baseline(state)
        told = f"{len(state.candidates)} prompts · {left} in · baseline {base}"
        self.query_one("#table-pane", Pane).say(subtitle=told)
        self._show_detail(state)
        self._show_examples(state)
        if self.follower:
            self._read_examples(self.follower)

    def _show_race(self, state: RunState) -> None:
        race, shown = self.query_one("#race", Static), bracket(state, candidates.winner(state))
        if shown != race.content:
            race.update(shown)

    def _show_grid(self, state: RunState) -> None:
        """The pane of a step that walks levels of compression, where there is one."""
        rows, pane = grid.rows(state), self.query_one("#grid-pane", Pane)
        self.need(pane, bool(rows))
        self.query_one("#grid", LiveTable).show(rows)
        pane.say(subtitle=grid.LEGEND)

    def why_not(self, name: str) -> str | None:
        if name == "differ" and not self.examples:
            return "the run has written no examples yet"
        if (
            name == "open"
            and self.active.id == "examples-pane"
            and self.query_one("#examples", LiveTable).selected is None
        ):
            return "the run has written no examples yet"
        if name == "edit":
            return self._uneditable()
        if name == "export" and self.query_one("#candidates", LiveTable).selected is None:
            return "there are no prompts yet"
        return super().why_not(name)

    def do_differ(self) -> None:
        self.which = examples.WHICH[(examples.WHICH.index(self.which) + 1) % len(examples.WHICH)]
        if self.follower:
            self._show_examples(self.follower.state)
        self.activate(self.query_one("#examples-pane", Pane))

    def do_open(self) -> None:
        target = self.active.target()
        if isinstance(target, LiveTable) and target.id == "examples":
            if target.selected is not None:
                example = self.examples[int(target.selected)]
                known = self.follower.state.candidates if self.follower else {}
                self.app.push_screen(Reader(f"Example {example['row']}", examples.full(example, known)))
        else:
            self.activate(self.query_one("#detail-pane", Pane))

    def _uneditable(self) -> str | None:
        """Why the selected prompt cannot be edited, None when it can."""
        state = self.follower.state if self.follower else None
        name = self.query_one("#candidates", LiveTable).selected
        if state is None or name not in state.candidates:
            return "no prompt is selected"
        text = state.candidates[name].text
        return "no text says what a soft prompt is" if SOFT.match(text) else None

    def do_edit(self) -> None:
        """Opens the selected prompt's text; it is scored by the run's models, the dense one alone where there is no other."""
        name = self.query_one("#candidates", LiveTable).selected
        if self.follower is None or name is None:
            return
        from tui.screens.trying import TryScreen

        run, state = self.follower.run, self.follower.state
        note, models = "", [("dense", state.source)]
        try:
            models.append(("compressed", pair(run, state)[1]))
        except UsageError:
            note = "Not scored yet; the run has written no model so far: the dense one alone will be asked."
        chosen = state.candidates[name]
        request = {"profile": str(run.profile_file), "step": chosen.step, "original": chosen.text, **place(run)}
        self.app.push_screen(TryScreen(name, request, models, self.tui.resident, note))

    def do_export(self) -> None:
        """Writes the table, or the marked prompt's text, as the name that is typed ends."""
        name = self.query_one("#candidates", LiveTable).selected
        if self.follower is None or name is None:
            return
        state, question = self.follower.state, f"Write the table (.md .csv .json), or {name}'s text (.txt), to"
        saving.ask(self.tui, question, f"{self.follower.run.name}-prompts.md", exporting.FORMATS,
                   lambda path: self._write(path, exporting.text(state, name, path.suffix)))  # fmt: skip

    @work(group="save", exclusive=True)
    async def _write(self, path: Path, text: str) -> None:
        await saving.save(self.tui, path, text)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.do_open()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.data_table.id == "candidates" and self.follower:
            self._show_detail(self.follower.state)
            self._show_examples(self.follower.state)

    def copied(self) -> str:
        name = self.query_one("#candidates", LiveTable).selected
        if self.active.id == "examples-pane":
            chosen = self.query_one("#examples", LiveTable).selected
            return str(self.examples[int(chosen)]["text"]) if chosen is not None else ""
        return self.follower.state.candidates[name].text if name and self.follower else ""

    def _show_detail(self, state: RunState) -> None:
        name = self.query_one("#candidates", LiveTable).selected
        if name in state.candidates:
            self.query_one("#detail", Static).update(candidates.detail(state, name))
            self.query_one("#detail-pane", Pane).say(title=f"Prompt · {name}")

    def _show_examples(self, state: RunState) -> None:
        """The selected prompt (the winner while the baseline is selected) beside the baseline."""
        base = candidates.baseline(state) or ""
        best = self.query_one("#candidates", LiveTable).selected or ""
        answered = {name for example in self.examples for name in example["answers"]}
        if best == base or best not in answered:
            best = candidates.winner(state) or best
        found = examples.rows(self.examples, base, best, self.which)
        self.query_one("#examples", LiveTable).show(found)
        missing = NEVER_TESTED if state.finished else NO_EXAMPLES
        none = f"None of these two prompts' examples is {self.which}: {{differ}} shows others."
        words = self.keys.text(none) if self.examples else missing
        self.query_one("#examples-pane", Pane).explain("" if found else words)
        told = examples.tally(self.examples, base, best) if self.examples else "none written yet"
        title = f"Examples · {base} / {best} · {self.which} {len(found)}"
        self.query_one("#examples-pane", Pane).say(title=title, subtitle=told)

    @work(group="prompts", exclusive=True)
    async def _read_examples(self, follower: Follower) -> None:
        """Reads the file again when its size changed."""
        size = await asyncio.to_thread(examples.size, follower.run)
        if (follower, size) == self._read:
            return
        found = await asyncio.to_thread(examples.read, follower.run)
        if follower is self.follower:
            self._read, self.examples = (follower, size), found
            self._show_examples(follower.state)
