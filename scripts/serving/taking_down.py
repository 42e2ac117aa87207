"""`doit undeploy` and `doit rollback`: what Ingot put into the cache goes out of it, or back to an earlier version."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.common.errors import IngotError, UnknownNameError
from scripts.foundry import chosen, deploy, standing, versions
from scripts.serving.place import Place


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
    for own in {own.folder: own for name in names for own in place.own(name, gone=True)}.values():
        deploy.undeploy(own.id, place.cache, own.folder)
        again = " (doit deploys it again, unless models.toml says otherwise)" if own.name in place.asked.names else ""
        print(f"{own.id} taken down{again}", flush=True)


def rollback(place: Place, word: str, to: int | None, command: str) -> None:
    """List an earlier version, or version `to`, of what is named: of a model, of each precision that has one.

    `command` is the beginning of the one that brings a version back. Raises `IngotError` where there is none.
    """
    names = list(dict.fromkeys(own.name for own in place.own(word)))
    if to is not None and len(names) > 1:
        raise UnknownNameError(f"to={to}", f"{word} has {len(names)} precisions", f"Name one: {', '.join(names)}")
    done, errors = 0, list[IngotError]()
    for name in names:
        try:
            before, now = versions.rollback(place.cache, name, to)
        except IngotError as error:
            errors.append(error)
            continue
        chosen.note(place.asked.build, place.cache, now)
        done += 1
        gone = [one for one in before if int(one.rpartition(":")[2]) > int(now.rpartition(":")[2])]
        told = [f"{one} taken back ({command} {name} to={one.rpartition(':')[2]} brings it back)" for one in gone]
        print(f"{now} is served" + "".join(f"; {line}" for line in told), flush=True)
    if not done:
        many = len({error.found for error in errors}) < len(errors)
        raise IngotError(word, errors[0].found, "doit models tells what is there") if many else errors[0]
