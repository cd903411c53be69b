"""Work in threads that nobody waits for: what hangs on a network or a disk must not keep the app from being left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Found = TypeVar("Found")


async def aside(function: Callable[Given, Found], *given: Given.args, **named: Given.kwargs) -> Found:
    """As asyncio.to_thread; but the end of the process, which waits for threads of that, does not wait for this one."""
    future: Future[Found] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            found = function(*given, **named)
        except BaseException as error:  # raised again where it is awaited
            future.set_exception(error)
        else:
            future.set_result(found)

    threading.Thread(target=work, daemon=True).start()
    return await asyncio.wrap_future(future)
