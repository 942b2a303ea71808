"""What the person sees: steps with their time, alive on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_LOG_WIDTH = 160


class Progress:
    """Prints steps as they happen; `note` adds what to look at."""

    def __init__(self, console: Console | None = None) -> None:
        width = None if sys.stdout.isatty() else _LOG_WIDTH
        self.console = console or Console(highlight=False, soft_wrap=True, width=width)

    def title(self, text: str) -> None:
        """A heading."""
        self.console.print(f"\n[bold]{escape(text)}[/bold]")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """A step: a spinner while it runs on a terminal, one line when it is done, failed or interrupted."""
        began = time.monotonic()
        try:
            if self.console.is_terminal:
                with self.console.status(escape(text)):
                    yield
            else:
                yield
        except Exception:
            self.console.print(f"  [red]failed[/red] {escape(text)}")
            raise
        except BaseException:  # a signal
            self.console.print(f"  [yellow]interrupted[/yellow] {escape(text)}")
            raise
        self.console.print(f"  [green]ok[/green] {escape(text)} [dim]({time.monotonic() - began:.1f} s)[/dim]")

    def note(self, *lines: str) -> None:
        """What was found, or where to look."""
        for line in lines:
            self.console.print(f"     {escape(line)}", style="cyan")

    def say(self, text: str) -> None:
        """One plain line."""
        self.console.print(escape(text))

    def table(self, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
        """A small table."""
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*map(escape, row))
        self.console.print(table)
