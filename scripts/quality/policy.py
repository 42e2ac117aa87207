"""Which precisions are signed and deployed: by what `recommend` gave, and by what models.toml says under `deploy`."""

from __future__ import annotations

from scripts.common.errors import IngotError
from scripts.results.base import Outcome
from scripts.results.quality import Advice


def held_back(advice: Advice | None, precision: str, policy: str) -> Outcome | None:
    """Why a precision is neither signed nor deployed, as verdict and reasons; None if it is.

    `advice` is what `recommend` gave: "refused" if the precision did not pass there, "skipped" if the user's
    `policy` ("all", "recommended", "none") does not want it. What was deployed before stays as it is.
    """
    if policy not in ("all", "recommended", "none"):
        raise IngotError("--policy", f"is {policy!r}", 'Use "all", "recommended" or "none"')
    if advice:
        judged = advice.precisions.get(precision)
        if judged is None:
            known = ", ".join(advice.precisions)
            raise IngotError("--precision", f"{precision!r} is not among those judged", f"Use one of {known}")
        if judged.verdict not in ("passed", "warned"):
            return judged
    if policy == "none":
        return Outcome(verdict="skipped", reasons=['deploy = "none"'])
    if policy == "recommended" and advice and advice.recommended != precision:
        return Outcome(verdict="skipped", reasons=[f'deploy = "recommended", which is {advice.recommended}'])
    return None
