"""Seconds and money in words."""

from __future__ import annotations

from typing import Any

_RESTS_ON = {
    "size": "like it",
    "model and pool": "of its model, of other sizes",
    "model": "of its model, in other pools",
    "task": "of other models",
}


def duration(seconds: float) -> str:
    """`4.2 s`, `2 min 10 s`, `3 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def money(amount: float, currency: str) -> str:
    """`0.35 EUR`; what is below a hundredth with the digits that it has."""
    digits = 2 if amount >= 0.01 or amount == 0 else 4
    return f"{amount:.{digits}f} {currency}".rstrip()


def amounts(of: dict[str, Any]) -> str:
    """Machine time, GPU time and money of anything that has these; what there is none of is left out."""
    parts = [f"{duration(of['machine_s'])} of machine time"]
    if of["gpu_s"]:
        parts.append(f"{duration(of['gpu_s'])} of GPU")
    if of["money"]:
        parts.append(money(of["money"], of["currency"]))
    return ", ".join(parts)


def estimate_line(estimate: dict[str, Any] | None) -> str:
    """What a job will take, in one line."""
    if estimate is None:
        return "nobody knows yet what it will take: nothing like it was done here"
    jobs = f"from {estimate['jobs']} job{'s' if estimate['jobs'] != 1 else ''} {_RESTS_ON[estimate['alike']]}"
    spread = f"{duration(estimate['low'])} to {duration(estimate['high'])}, " if estimate["jobs"] > 1 else ""
    time, _, more = amounts(estimate).partition(", ")
    less = "; less where earlier work can be taken over" if estimate["upper"] else ""
    return f"about {time} ({spread}{jobs}){more and ', ' + more}{less}"


def spent_line(cost: dict[str, Any], estimate: dict[str, Any] | None = None) -> str:
    """What a job took, in one line, and how far its estimate was off."""
    off = (estimate or {}).get("error")
    told = "" if off is None else f", {_compared(off)}"
    lost = f"; {duration(cost['lost_s'])} came to nothing" if cost["lost_s"] else ""
    return f"took {amounts(cost)}{told}{lost}"


def _compared(off: float) -> str:
    percent = round(abs(off) * 100)
    if not percent:
        return "as estimated"
    return f"{percent} % {'more' if off > 0 else 'less'} than estimated"
