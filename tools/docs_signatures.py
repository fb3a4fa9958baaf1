"""For griffe: the keywords that a function takes by ``**how: Unpack[Options]``, as parameters of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import griffe


class Keywords(griffe.Extension):
    """Adds the keys of the TypedDict, those that it inherits too, to what a function is said to take."""

    def on_function(self, *, func: griffe.Function, loader: griffe.GriffeLoader, **rest: Any) -> None:
        """What griffe calls for every function once all modules are read."""
        for variadic in list(func.parameters):
            annotation = variadic.annotation
            if variadic.kind is not griffe.ParameterKind.var_keyword:
                continue
            if not isinstance(annotation, griffe.ExprSubscript) or annotation.canonical_name != "Unpack":
                continue
            described = _documented(func.docstring, variadic.name)
            del func.parameters[variadic.name]
            for key in _keys(annotation.slice, func):
                if key.name not in func.parameters:
                    func.parameters.add(
                        griffe.Parameter(
                            key.name,
                            annotation=key.annotation,
                            kind=griffe.ParameterKind.keyword_only,
                            default="...",
                        )
                    )
            if described:
                func.parameters.add(griffe.Parameter(variadic.name, kind=variadic.kind, annotation="Any"))


def _documented(docstring: griffe.Docstring | None, name: str) -> bool:
    lines = [] if docstring is None else docstring.value.splitlines()
    return any(line.strip() in (name, f"**{name}") for line in lines)


def _keys(expression: Any, func: griffe.Function) -> Iterator[griffe.Attribute]:
    """The keys of a TypedDict and of those that it is made of, its bases' first."""
    path = expression.canonical_path
    if not path.startswith("crysjepa."):
        return
    found = func.modules_collection[path]
    if found.is_alias:
        found = found.final_target
    for base in found.bases:
        yield from _keys(base, func)
    yield from found.attributes.values()
