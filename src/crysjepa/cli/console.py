"""What the verbs of the command line share: errors in one line, notes, progress, the log."""

from __future__ import annotations

import functools
import inspect
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand

from crysjepa import __version__
from crysjepa.cli.groups import Wanted
from crysjepa.runtime.bars import bars
from crysjepa.runtime.notes import ReadNote, UsageError
from crysjepa.runtime.progress import Lines, Log, StageProgress

Command = TypeVar("Command", bound=Callable[..., Any])

output = Console()
"""Results: standard output."""
errors = Console(stderr=True)
"""Progress and errors: standard error, so that results can be piped."""


_log = Log()
"""Of the command at work."""


# -- running ---------------------------------------------------------------------------------


def friendly(command: Command) -> Command:
    """Turn the errors that a user can mend into one line and exit status 1: 2 where what was asked for cannot
    be, 130 when interrupted.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        global _log
        _log = Log()
        try:
            _log.add(f"crysjepa {__version__}: {shlex.join(['crysjepa', *sys.argv[1:]])}")
            given = ", ".join(f"{k}={v}" for k, v in kwargs.items() if v is not None)
            _log.add(f"in {Path.cwd()}, with {given}")
            with notes_shown():
                return command(*args, **kwargs)
        except typer.Exit:  # a RuntimeError, too
            raise
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            _log.add(f"error: {error}")
            errors.print("[bold red]error:[/] ", end="")
            errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(2 if isinstance(error, UsageError) else 1) from None
        except KeyboardInterrupt:
            _log.add("stopped")
            errors.print("stopped; the same command goes on from here")
            raise typer.Exit(130) from None

    return wrapped  # type: ignore[return-value]


def grouped(command: Command) -> Command:
    """A command whose parameters that are dataclasses are options of its own, one a field."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kind)]
        if isinstance(kind, type) and is_dataclass(kind):
            groups[name], of_fields = kind, get_type_hints(kind, include_extras=True)
            own = [
                parameter.replace(
                    name=f.name,
                    kind=inspect.Parameter.KEYWORD_ONLY,
                    default=f.default,
                    annotation=of_fields[f.name],
                )
                for f in fields(kind)
            ]
        parameters += own

    @functools.wraps(command)
    def flat(**given: Any) -> Any:
        made = {n: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for n, kind in groups.items()}
        return command(**given, **made)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in parameters}
    return flat  # type: ignore[return-value]


@contextmanager
def notes_shown() -> Iterator[None]:
    """Each :class:`ReadNote` is a line ``note: ...`` on standard error, rather than a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", ReadNote)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, ReadNote):
                _log.add(f"note: {message}")
                errors.print(f"note: {message}", markup=False, highlight=False, soft_wrap=True)
            else:
                usual(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


class _OnceEach(TyperCommand):
    """A command that refuses a constraint given twice, of which the last alone would hold."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer's."""
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        constraints = {field.name for field in fields(Wanted)} - {"distinct"}
        for option in given:
            if option.name in constraints and given.count(option) > 1:
                listed = option.name in _LISTED
                ctx.fail(f"{option.opts[0]} is given twice: give it once{_IN_ONE if listed else ''}")
        return super().parse_args(ctx, args)


_LISTED = frozenset({"elements", "exclude_elements", "contains", "contains_any", "space_group"})
_IN_ONE = ", with all of it parted by commas"


class Verbs(typer.Typer):
    """A Typer whose commands are all :func:`friendly` and may take options :func:`grouped`."""

    def command(self, *args: Any, **kwargs: Any) -> Callable[[Command], Command]:
        """As Typer's."""
        register = super().command(*args, **{"cls": _OnceEach, **kwargs})
        return lambda command: register(friendly(grouped(command)))


@contextmanager
def progress(folder: Path | None = None) -> Iterator[StageProgress]:
    """A bar for each stage, or where there is no terminal a line now and then, with an estimate of what is
    left; yields ``report(stage, done, total)``. A run's ``folder`` gets a log.
    """
    if folder is not None:
        _log.put_in(folder)

    def tell(line: str) -> None:
        _log.add(line)
        if not errors.is_terminal:
            stamp = time.strftime("%H:%M:%S")
            errors.print(f"{stamp}  {line}", markup=False, highlight=False, soft_wrap=True)

    with Lines(tell) as lines:
        if not errors.is_terminal:
            yield lines.report
            return
        with bars(errors) as bar:

            def both(stage: str, done: int, total: int) -> None:
                bar(stage, done, total)
                lines.report(stage, done, total)

            yield both


def text(value: Any) -> Text:
    """A cell that rich prints as it stands: ids and formulas are no markup."""
    return Text("" if value is None else str(value))


def say(line: str, *, soft_wrap: bool = False) -> None:
    """Print a line of results as it stands; with ``soft_wrap`` it is not broken at the window's edge."""
    _log.add(line)
    output.print(line, markup=False, highlight=False, soft_wrap=soft_wrap)
