"""`doit undeploy`: out of the cache with what Ingot put there, by name, or all that nothing asks for."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.common.errors import IngotError
from scripts.common.model_id import parse
from scripts.foundry import deploy, marks, standing
from scripts.serving.place import Place, UnknownNameError


def undeploy(place: Place, names: Sequence[str], orphans: bool) -> None:
    """Take down every model that is named: all precisions of a model, all versions of a name, or one id.

    Raises `UnknownNameError` before anything is taken down; `IngotError` where the cache can't be written.
    """
    if bool(names) == orphans:
        raise UnknownNameError("doit undeploy", "names nothing" if not names else "names models and orphans",
                               "Name a model, MODEL-PRECISION or an id; or give --orphans")  # fmt: skip
    if orphans:
        gone = standing.take_down_orphans(place.cache, place.asked)
        print("\n".join(f"{model_id} taken down" for model_id in gone) or "there are no orphans", flush=True)
        return
    for own in {own.folder: own for name in names for own in _meant(place, name)}.values():
        deploy.undeploy(own.id, place.cache, own.folder)
        again = " (doit deploys it again, unless models.toml says otherwise)" if own.name in place.asked.names else ""
        print(f"{own.id} taken down{again}", flush=True)


def _meant(place: Place, word: str) -> list[marks.Own]:
    """What Ingot put there of that name, listed or not."""
    folded = word.casefold()
    found = list(marks.ours(place.cache))
    names = {one.id: _names(place, one) for one in found}
    if meant := [one for one in found if folded in names[one.id]]:
        return meant
    if any(folded == one.id.casefold() for one in place.listed()):
        raise IngotError(word, "was not put there by Ingot", "Take it down with whatever put it there")
    import difflib

    known = list(dict.fromkeys(name for one in found for name in names[one.id]))
    near = difflib.get_close_matches(folded, known, n=1)
    there = ", ".join(one.id for one in found) or "none"
    remedy = (f"Did you mean {near[0]}? " if near else "") + f"Deployed by Ingot: {there}"
    raise UnknownNameError(word, f"there is no such model in {place.cache}", remedy)


def _names(place: Place, own: marks.Own) -> list[str]:
    model, precision = place.asked.names.get(own.name) or (None, None)
    named = [model, f"{model}-{precision}"] if model else []
    return [name.casefold() for name in (own.id, own.name, parse(own.id).alias, *named) if name]
