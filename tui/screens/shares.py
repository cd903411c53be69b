"""The Shares pane of the Profiles screen: which step and blocks are edited, what the keys change, storing it in a draft.

The strip starts from the step's own shares, or from the plan of the open run where that compresses the same model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import work

from engine import events as ev
from engine.errors import EngineError, ProfileError
from engine.state import RunState
from tui import blocks
from tui.actions import Action
from tui.screens.base import WorkScreen
from tui.shares import Shares, editable, shares, sizes_of_model, sizes_of_run
from tui.widgets.drafts import Draft
from tui.widgets.sharesview import SharesView

if TYPE_CHECKING:
    from engine.profile import Profile

FINE, COARSE = 0.01, 0.05
ACTIONS = ("left", "right", "raise", "lower", "balance", "next_step")
BROKEN = "The profile has problems; see Check."
NO_STEP = (
    "No prune step here whose sparsity can differ by block (an unstructured pattern, no threshold). "
    "e adds or changes one, for example step.0.pattern=unstructured"
)


class SharesScreen(WorkScreen):
    """What the Profiles screen does with the strip."""

    def __init__(self) -> None:
        super().__init__()
        self.strip: Shares | None = None
        self._strips: dict[tuple[object, ...], Shares] = {}
        self._sizes: dict[str, dict[int, int]] = {}
        self._nth: dict[str, int] = {}
        self._shown_strip: tuple[object, ...] | None = None
        self._problem = ""

    @property
    def in_shares(self) -> bool:
        return self.active.id == "shares-pane"

    def take(self, change: str) -> None:
        """Adds a change to the selected draft."""
        raise NotImplementedError

    def why_not(self, name: str) -> str | None:
        if name in ACTIONS and not self.in_shares:
            return "this is for the strip in Shares: tab goes there"
        if self.in_shares and name in (*ACTIONS, "open", "sort"):
            return None if self.strip else self._problem.partition("\n")[0]
        return super().why_not(name)

    def worded(self, action: Action) -> Action:
        stores = self.in_shares and action.name in ("open", "sort")
        return replace(action, label="store") if stores else action

    def show_shares(self, draft: Draft, checked: Profile | ProfileError) -> None:
        """Shows the strip of a draft; the model's blocks are read in a thread, once for each model."""
        if isinstance(checked, ProfileError) or not (steps := editable(checked)):
            self._shown_strip = None
            self._put(None, BROKEN if isinstance(checked, ProfileError) else NO_STEP)
            return
        nth = self._nth.get(str(draft.path), 0) % len(steps)
        plan = self._plan(checked, steps[nth])
        key = (str(draft.path), draft.text, *draft.changes, nth, plan and (plan.time, plan.seq))
        edited = self.strip is not None and self.strip.changed and (self._shown_strip or ())[:-1] == key[:-1]
        if key != self._shown_strip and not edited:  # a plan that arrives leaves what hands have changed
            self._shown_strip = key
            self.query_one("#shares-pane").border_title = f"Shares · step {steps[nth]}" + " · n next" * (len(steps) > 1)
            self._load(key, checked, steps[nth], plan)

    def _state(self, source: str) -> RunState | None:
        """The open run, where it is one of this model."""
        follower = self.tui.follower
        return follower.state if follower and follower.concerns(source) else None

    def _plan(self, checked: Profile, step: int) -> ev.SparsityPlanned | None:
        """The open run's last plan for as much as this step removes."""
        state, target = self._state(checked.model.source), float(getattr(checked.step[step], "amount", 0.5))
        plans = [plan for plan in state.plans.values() if abs(plan.sparsity - target) < 1e-9] if state else []
        return plans[-1] if plans else None

    @work(group="shares", exclusive=True)
    async def _load(
        self, key: tuple[object, ...], checked: Profile, step: int, plan: ev.SparsityPlanned | None
    ) -> None:
        source = checked.model.source
        state = self._state(source)
        try:
            sizes = sizes_of_run(state) if state else self._sizes.get(source, {})
            sizes = sizes or await asyncio.to_thread(sizes_of_model, source)
        except EngineError as error:
            self._put(None, "\n".join(error.lines()).removeprefix("error: "))
            return
        self._sizes[source] = sizes
        if key not in self._strips:
            planned = blocks.means(plan.shares, state.layers.values()) if state and plan else {}
            self._strips[key] = shares(checked, step, sizes, planned)
            self._strips[key].at = min(self.strip.at, len(sizes) - 1) if self.strip else 0
        self._put(self._strips[key], "")

    def _put(self, strip: Shares | None, problem: str) -> None:
        self.strip, self._problem = strip, problem
        self.query_one(SharesView).show(strip, problem)

    def _edit(self, change: Callable[[Shares], object]) -> None:
        if self.strip is not None:
            change(self.strip)
            self._put(self.strip, "")

    def store(self) -> None:
        """Puts the strip into the draft as the step's `shares`."""
        if self.strip is not None:
            self._strips.pop(self._shown_strip or (), None)  # what it started from is read from the profile again
            self.take(self.strip.keep())
            self.notify("stored in the draft: w saves it, enter in Profiles runs it", timeout=3)

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
                "the other blocks cannot make up for those changed: u takes the changes back",
                severity="warning",
                timeout=4,
            )
        self._edit(lambda strip: None)

    def do_next_step(self) -> None:
        self._nth[self._draft_key()] = self._nth.get(self._draft_key(), 0) + 1
        self.refresh_draft()

    def do_sort(self) -> None:
        if self.in_shares:
            self.store()
        else:
            super().do_sort()

    def _draft_key(self) -> str:
        raise NotImplementedError

    def refresh_draft(self) -> None:
        """Shows the selected draft again."""
        raise NotImplementedError
