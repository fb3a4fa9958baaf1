"""Constraints that nothing can obey: told before anything is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crysjepa.generators.constraints import Constraints


def contradiction(asked: Constraints) -> str | None:
    """Why no crystal can obey, in the command line's words; None where one might."""
    for look in (_of_elements, _of_numbers, _of_formula):
        if (reason := look(asked)) is not None:
            return reason
    return None


def _of_elements(asked: Constraints) -> str | None:
    from crysjepa.generators.constraints import names

    left = asked.allowed
    needed = [("--chemical-system", asked.system), ("--contains", asked.all_of)]
    if asked.formula is not None and asked.formula.elements is not None:
        needed.append((f"--formula {asked.formula.name}", frozenset(asked.formula.elements)))
    for option, elements in needed:
        if elements is not None and (missing := elements - left):
            return f"{option} needs {names(missing)}, which the other constraints exclude"
    if not left:
        return "the constraints leave no element that a crystal may hold"
    if not asked.has_one(left):
        return f"--contains-any needs one of {names(asked.any_of or ())}, which the other constraints exclude"
    exact = None if asked.formula is None else asked.formula.elements
    if asked.system is not None and exact is not None and asked.system != frozenset(exact):
        return f"--chemical-system has {names(asked.system - set(exact))}, which --formula has not"
    return None


def _of_numbers(asked: Constraints) -> str | None:
    if asked.max_sites is not None and asked.max_sites < 1:
        return f"--max-sites {asked.max_sites}: a crystal has at least one site"
    if asked.max_elements is not None and asked.max_elements < 1:
        return f"--max-elements {asked.max_elements}: a crystal has at least one element"
    if asked.space_groups is not None and not asked.space_groups:
        return "--space-group leaves no space group"
    num = asked.fewest_elements
    option = "--chemical-system" if num == len(asked.system or ()) else "--contains"
    if asked.max_sites is not None and asked.max_sites < num:
        return f"the {num} elements of {option} do not fit on --max-sites {asked.max_sites}"
    if asked.max_elements is not None and asked.max_elements < num:
        return f"{option} has {num} elements, more than --max-elements {asked.max_elements}"
    return None


def _of_formula(asked: Constraints) -> str | None:
    formula, units = asked.formula, asked.formula_units
    if formula is None:
        return None if units is None else "--formula-units says nothing without --formula"
    num, option = formula.num_elements, f"--formula {formula.name}"
    if units is not None and not 1 <= units[0] <= units[1]:
        return f"--formula-units {units[0]}-{units[1]}: at least 1, and the fewest before the most"
    if asked.max_elements is not None and asked.max_elements < num:
        return f"{option} has {num} elements, more than --max-elements {asked.max_elements}"
    if asked.system is not None and len(asked.system) != num:
        return f"{option} has {num} elements, --chemical-system has {len(asked.system)}"
    if num < asked.fewest_elements:
        return f"{option} has {num} elements, --contains needs {asked.fewest_elements}"
    if len(asked.allowed) < num:
        return f"{option} needs {num} elements, the constraints leave {len(asked.allowed)}"
    fewest = formula.num_atoms * (1 if units is None else units[0])
    if asked.max_sites is not None and asked.max_sites < fewest:
        return f"{option} needs {fewest} sites, more than --max-sites {asked.max_sites}"
    if asked.distinct and formula.elements is not None:
        return f"--distinct: with {option} all crystals have the same formula"
    return None
