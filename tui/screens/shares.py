"""The Shares pane of the Profiles screen: which step and blocks are edited, what the keys change, storing it in a draft.

The strip starts from the step's own shares, or from the plan of the open run where that compresses the same model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text
from textual import work

from engine import events as ev
from engine import figures
from engine.errors import EngineError, ProfileError
from engine.state import RunState
from tui.actions import Action
from tui.blocks import before_blocks_left
from tui.screens.base import WorkScreen
from tui.shares import Shares, Sizes, editable, shares, sizes_of_model, sizes_of_run
from tui.threads import aside
from tui.widgets import drafts
from tui.widgets.pane import Pane
from tui.widgets.sharesview import SharesView
from tui.widgets.table import LiveTable

if TYPE_CHECKING:
    from engine.profile import Profile

FINE, COARSE = 0.01, 0.05
Key = tuple[object, ...]
"""a draft, and what its strip is made from: other changes of the draft leave the strip as hands made it"""
Asked = tuple[Key, object, bool]
"""what a strip is made for: its key, the plan it starts from, whether sizes were known"""
ACTIONS = ("left", "right", "raise", "lower", "balance", "next_step")
READING = "reading the blocks …"
BROKEN = "The profile has problems; see Form."
NO_STEP = (
    "No prune step here whose sparsity can differ by block (an unstructured pattern, no threshold). "
    "{edit} adds or changes one, for example step.0.pattern=unstructured"
)


class SharesScreen(WorkScreen):
    """What the Profiles screen does with the strip."""

    def __init__(self) -> None:
        super().__init__()
        self.drafts: dict[str, drafts.Draft] = {}
        self.strip: Shares | None = None
        self._strips: dict[Key, tuple[Shares, object]] = {}
        self._sizes: dict[str, Sizes] = {}
        self._nth: dict[str, int] = {}
        self._key: Key = ()
        self._asked: Asked | None = None
        self._at = 0
        self._problem = ""

    @property
    def in_shares(self) -> bool:
        return self.active.id == "shares-pane"

    @property
    def draft(self) -> drafts.Draft | None:
        """The selected profile."""
        return self.drafts.get(self.query_one("#profiles-table", LiveTable).selected or "")

    def take(self, change: str) -> None:
        """Adds a change to the selected draft, in place of an earlier one of the same key."""
        if self.draft:
            key = change.partition("=")[0].strip()
            self.draft.changes = [c for c in self.draft.changes if c.partition("=")[0].strip() != key] + [change]
            self.show_draft()

    def show_draft(self, typed: str = "") -> None:
        """Shows the selected draft, here its strip; `typed` is a change that is not entered yet."""
        if self.draft:
            self.show_shares(self.draft, self.draft.check())

    def why_not(self, name: str) -> str | None:
        if name in ACTIONS and not self.in_shares:
            return self.keys.text("this is for the strip in Shares: {next_pane} goes there")
        if self.in_shares and name in (*ACTIONS, "open", "sort"):
            return None if self.strip else self._problem.partition("\n")[0]
        return super().why_not(name)

    def worded(self, action: Action) -> Action:
        stores = self.in_shares and action.name in ("open", "sort")
        return replace(action, label="store") if stores else action

    def show_shares(self, draft: drafts.Draft, checked: Profile | ProfileError) -> None:
        """Shows the strip of a draft; the model's blocks are read in a thread, once for each model."""
        if isinstance(checked, ProfileError) or not (steps := editable(checked)):
            self._key, self._asked = (), None
            self._put(None, BROKEN if isinstance(checked, ProfileError) else self.keys.text(NO_STEP))
            return
        nth = self._nth.get(str(draft.path), 0) % len(steps)
        more = self.keys.text(" · {next_step} next") if len(steps) > 1 else ""
        self.query_one("#shares-pane", Pane).say(title=Text(f"Shares · step {steps[nth]}{more}"))
        plan = self._plan(checked, steps[nth])
        key, told = _key(draft, checked, steps[nth]), plan and (plan.time, plan.seq)
        self._key, (held, of) = key, self._strips.get(key, (None, None))
        if held is not None and (held.changed or of == told):  # a plan that arrives leaves what hands have changed
            self._asked = None
            if self.strip is not held:
                self._put(held, "")
            return
        sizes = self._known_sizes(checked.model.source)
        if self._asked != (asked := (key, told, bool(sizes))):
            self._asked = asked
            if sizes:
                self._begin(asked, checked, steps[nth], sizes)
            else:
                self._put(None, READING)
                self._load(asked, checked, steps[nth])

    def _state(self, source: str) -> RunState | None:
        """The open run, where it is one of this model."""
        follower = self.tui.follower
        return follower.state if follower and follower.concerns(source) else None

    def _plan(self, checked: Profile, step: int) -> ev.SparsityPlanned | None:
        """The open run's last plan for as much as this step removes, made before any block had left the model."""
        state, target = self._state(checked.model.source), float(getattr(checked.step[step], "amount", 0.5))
        if state is None:
            return None
        fitting = (plan for plan in state.plans.values() if abs(plan.sparsity - target) < 1e-9)
        plans = [plan for plan in fitting if before_blocks_left(state, plan.step)]
        return plans[-1] if plans else None

    def _known_sizes(self, source: str) -> Sizes:
        """The sizes of the model's matrices, nothing where its headers have to be read first."""
        state = self._state(source)
        return (sizes_of_run(state) if state else {}) or self._sizes.get(source, {})

    @work(group="shares", exclusive=True)
    async def _load(self, asked: Asked, checked: Profile, step: int) -> None:
        try:
            sizes = await aside(sizes_of_model, checked.model.source)
        except EngineError as error:
            if self._asked == asked:
                self._put(None, "\n".join(error.lines()).removeprefix("error: "))
        else:
            self._begin(asked, checked, step, sizes)

    def _begin(self, asked: Asked, checked: Profile, step: int, sizes: Sizes) -> None:
        """Shows a new strip, unless something else was asked for while its sizes were read."""
        self._sizes[checked.model.source] = sizes
        if self._asked == asked:
            plan = self._plan(checked, step)
            strip = shares(checked, step, sizes, plan.shares if plan else {})
            strip.at = min(self._at, len(sizes) - 1)
            self._strips[asked[0]] = strip, plan and (plan.time, plan.seq)
            self._asked = None
            self._put(strip, "")

    def _put(self, strip: Shares | None, problem: str) -> None:
        self._at = self.strip.at if self.strip else self._at
        self.strip, self._problem = strip, problem
        self.query_one(SharesView).show(strip, problem)

    def _edit(self, change: Callable[[Shares], object]) -> None:
        if self.strip is not None:
            change(self.strip)
            self._put(self.strip, "")

    def store(self) -> None:
        """Puts the strip into the draft as the step's `shares`."""
        if self.strip is not None and self.strip.refused:
            mean, target = figures.share(self.strip.mean, 2), figures.share(self.strip.target, 2)
            keys = self.keys.text("{balance} balances, {undo} takes back")
            said = f"not stored: the mean is {mean}, not {target}, and a run would refuse it: {keys}"
            self.notify(said, severity="warning", timeout=4)
        elif self.strip is not None:
            self._strips.pop(self._key, None)  # what it started from is read from the profile again
            self.take(self.strip.keep())
            self.notify(self.keys.text("stored in the draft: {save} saves it, {open} in Profiles runs it"), timeout=3)

    def do_left(self) -> None:
        self._edit(lambda strip: strip.move(-1))

    def do_right(self) -> None:
        self._edit(lambda strip: strip.move(1))

    def do_up(self) -> None:
        if self.in_shares:
            self._edit(lambda strip: strip.change(FINE))
        else:
            super().do_up()

    def do_down(self) -> None:
        if self.in_shares:
            self._edit(lambda strip: strip.change(-FINE))
        else:
            super().do_down()

    def do_top(self) -> None:
        if self.in_shares:
            self._edit(lambda strip: strip.move(-len(strip.values)))
        else:
            super().do_top()

    def do_bottom(self) -> None:
        if self.in_shares:
            self._edit(lambda strip: strip.move(len(strip.values)))
        else:
            super().do_bottom()

    def do_raise(self) -> None:
        self._edit(lambda strip: strip.change(COARSE))

    def do_lower(self) -> None:
        self._edit(lambda strip: strip.change(-COARSE))

    def do_balance(self) -> None:
        if self.strip is not None and not self.strip.balance():
            self.notify(
                self.keys.text("the other blocks cannot make up for those changed: {undo} takes the changes back"),
                severity="warning",
                timeout=4,
            )
        self._edit(lambda strip: None)

    def do_next_step(self) -> None:
        if self.draft:
            path = str(self.draft.path)
            self._nth[path] = self._nth.get(path, 0) + 1
            self.show_draft()

    def do_sort(self) -> None:
        if self.in_shares:
            self.store()
        else:
            super().do_sort()


def _key(draft: drafts.Draft, checked: Profile, step: int) -> Key:
    options = checked.step[step]
    own = sorted(getattr(options, "shares", {}).items())
    return (str(draft.path), checked.model.source, step, getattr(options, "amount", 0.5), *own)
