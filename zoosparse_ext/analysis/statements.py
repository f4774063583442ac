"""The four statements of the paper, each measured on the twins at 50, 80 and 90 % sparsity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.agreement import agreement_by_sparsity
from zoosparse_ext.analysis.controls import CONTROL
from zoosparse_ext.analysis.correlation import correlation_with_original
from zoosparse_ext.analysis.data import ORIGINAL, StudyData
from zoosparse_ext.analysis.groups import Array
from zoosparse_ext.analysis.images import correct_of
from zoosparse_ext.analysis.intervals import MIN_MODELS, MODELS_AND_IMAGES, Estimate, share_below
from zoosparse_ext.analysis.measures import (
    AGREEMENT,
    AGREES,
    AGREES_BY_KAPPA,
    BRACKET,
    CORRELATED,
    CORRELATES,
    CORRELATES_ON_SAME,
    CROSSING,
    ENOUGH_MODELS,
    KAPPA,
    LEVELS,
    LOSERS,
    LOSS,
    METHODS,
    MP_AHEAD,
    OWN_FIRST,
    OWN_MINUS_OTHER,
    ROBUST,
    VD_AHEAD,
    Cell,
    Claim,
    between,
    cells_at_levels,
    near_levels,
    percent,
)
from zoosparse_ext.analysis.methods import NEAR, compared_alone, crossover_bracket
from zoosparse_ext.analysis.series import MP, VD, family, is_magnitude, is_variational, stands_for_its_method
from zoosparse_ext.analysis.twins import series_of
from zoosparse_ext.analysis.verdicts import (
    AHEAD,
    BEHIND,
    FAILS,
    HOLDS,
    UNDECIDED,
    Decision,
    met,
    p_of_bound,
    signed,
    undecided,
)


def robust(data: StudyData) -> Iterator[Claim]:
    """1: few models lose more than 5 points against the control, or, where there is none, against the original."""
    for cell in cells_at_levels(data):
        if cell.why:
            yield cell.claim(ROBUST, CONTROL, undecided(cell.why))
            continue
        against = CONTROL if cell.twins["control_id"].notna().all() else ORIGINAL
        estimate = share_below(_losses(data, cell.twins, against), -LOSS)
        lost = round(estimate.value * estimate.n)
        collapsed = int((~cell.twins["works"]).sum())
        text = f"{lost} of {estimate.n} lose more than 5 points against the {against}: {_share(estimate)}"
        text += f"; {collapsed} collapsed" if collapsed else ""
        text += (
            f"; {ENOUGH_MODELS} models or more can tell"
            if estimate.n < ENOUGH_MODELS and estimate.value < LOSERS
            else ""
        )
        p = min(1.0, 2 * min(estimate.p_below(LOSERS), estimate.p_above(LOSERS)))
        ends = estimate.value, estimate.low, estimate.high, estimate.n
        decision = met(ends, p, text, LOSERS, "10 %", below=True)
        yield cell.claim(
            ROBUST, against, decision, **_numbers(*ends), images=estimate.images, resampled=estimate.resampled
        )


def _losses(data: StudyData, twins: pd.DataFrame, against: str) -> Array:
    """Right answers of the twins minus those of controls or originals, [n, M], or accuracies, [n]; NaN loses all."""
    change = twins["change_from_control" if against == CONTROL else "change"].to_numpy(dtype=float)
    after = correct_of(data, twins["twin_id"], twins["epoch"])
    before = (
        correct_of(data, twins["control_id"], twins["epoch"])
        if against == CONTROL
        else data.correct(twins["source_id"])
    )
    if after is None or before is None:
        return change
    losses = np.subtract(after, before, dtype=np.int8)
    losses[np.isnan(change)] = -1
    return losses


def methods(data: StudyData) -> Iterator[Claim]:
    """2: magnitude pruning is ahead up to about 80 %, variational dropout above, and where they cross."""
    names = series_of(data)
    speakers = {MP, VD, *map(family, stands_for_its_method(names))}  # or what stands in for them
    pruned = [name for name in names if is_magnitude(name)] or [MP]
    dropped = list(dict.fromkeys(family(name) for name in names if is_variational(name))) or [VD]
    table = compared_alone(data)
    table = table.assign(family=table["against"].map(family))
    missing = _missing(names)
    for series, against in ((series, against) for series in pruned for against in dropped):
        stands = {series, against} <= speakers
        own = table[(table["series"] == series) & (table["family"] == against)]
        for level in LEVELS:
            yield _compared(own, series, against, level, stands, missing)
        yield _crossing(data, series, against, stands, missing)


def _missing(names: list[str]) -> str:
    """Which method has no twins; nothing where both have."""
    words = [word for _, is_there, word in METHODS if not any(map(is_there, names))]
    return f"no twins by {' nor by '.join(words)}" if words else ""


def _compared(
    table: pd.DataFrame, series: str, against: str, level: float, stands: bool, missing: str
) -> Claim:
    """The pairs nearest to a level: equal budgets first, then enough models, ends of training, equal sparsity."""
    measure, wanted = (MP_AHEAD, AHEAD) if level <= 0.8 else (VD_AHEAD, BEHIND)
    near = table[(table["sparsity"] - level).abs() <= NEAR + 1e-9]
    if near.empty:
        why = missing or f"no two twins of equal sparsity {between(level)}"
        cell = Cell(series, level, stands, why)
        return cell.claim(measure, against, undecided(why))
    equal = near["epochs"] == near["against_epochs"]
    order = near.assign(
        unequal=~equal,
        few=near["n"] < MIN_MODELS,
        early=~near["at_end"],
        far=(near["sparsity"] - level).abs(),
        inexact=near["pairs"] != "matched",
    ).sort_values(["unequal", "few", "early", "inexact", "far"])
    row = order.iloc[0]
    verdict = {UNDECIDED: UNDECIDED, wanted: HOLDS}.get(row["verdict"], FAILS)
    return Claim(
        measure.statement, measure.claim, measure.measure, measure.unit, measure.criterion,
        f"{series} − {row['against']}, {percent(row['sparsity'])}", series, row["against"],
        Decision(verdict, row["why"], row["p"]), level, row["sparsity"], row["epochs"], row["difference_median"],
        row["difference_low"], row["difference_high"], int(row["n"]), int(row["images"]), row["resampled"],
        measure.primary and stands, stands,
    )  # fmt: skip


def _crossing(data: StudyData, series: str, against: str, stands: bool, missing: str) -> Claim:
    table = crossover_bracket(data)
    found = table[(table["series"] == series) & (table["against"] == against)]
    row = found.iloc[0] if len(found) else pd.Series({"low": np.nan, "high": np.nan, "n": 0})
    low, high = float(row["low"]), float(row["high"])
    lowest, highest = CROSSING
    if found.empty:
        decision = undecided(missing or "no two twins of equal sparsity and equal epochs")
    elif low > high:
        decision = undecided(f"the order changes more than once: {row['why']}")
    elif low > highest or high < lowest:
        decision = Decision(FAILS, row["why"])
    elif low >= lowest and high <= highest:
        decision = Decision(HOLDS, row["why"])
    else:
        decision = undecided(row["why"])
    return Claim(
        BRACKET.statement, BRACKET.claim, BRACKET.measure, BRACKET.unit, BRACKET.criterion, f"{series} − {against}",
        series, against, decision, low=low, high=high, n=int(row["n"]), stands=stands,
    )  # fmt: skip


def agree(data: StudyData) -> Iterator[Claim]:
    """3: plain agreement; beside it κ, and whether a twin knows its own original among its peers."""
    table = agreement_by_sparsity(near_levels(data))
    for cell in cells_at_levels(data):
        if cell.why:
            yield cell.claim(AGREES, ORIGINAL, undecided(cell.why))
            continue
        row = cell.row_of(table)
        plain = _ends(row, "agreement", "agreement_n")
        decision = _judged(
            plain, f"{100 * plain[0]:.1f} % ({100 * plain[1]:.1f} to {100 * plain[2]:.1f})", AGREEMENT, "90 %"
        )
        yield cell.claim(AGREES, ORIGINAL, decision, **_numbers(*plain), **_resampled(data, row["resampled"]))
        kappa = _ends(row, "kappa", "kappa_n")
        yield cell.claim(
            AGREES_BY_KAPPA, ORIGINAL, _judged(kappa, _plain(kappa), KAPPA, "0.8"), **_numbers(*kappa)
        )
        first, chance = _ends(row, "own_rank_first", "own_rank_n"), float(row["own_rank_chance"])
        text = f"{100 * first[0]:.0f} % ({100 * first[1]:.0f} to {100 * first[2]:.0f}), by chance {100 * chance:.0f} %"
        yield cell.claim(OWN_FIRST, ORIGINAL, _judged(first, text, chance, "chance"), **_numbers(*first))
        other = _ends(row, "own_minus_other", "own_rank_n")
        text = f"{signed(100 * other[0])} points ({signed(100 * other[1])} to {signed(100 * other[2])})"
        yield cell.claim(OWN_MINUS_OTHER, ORIGINAL, _judged(other, text, 0.0, "0"), **_numbers(*other))


def correlated(data: StudyData) -> Iterator[Claim]:
    """4: original on one half of the images, twin on the other; beside it the control, and the originals themselves."""
    table = correlation_with_original(near_levels(data))
    for cell in cells_at_levels(data):
        if cell.why:
            yield cell.claim(CORRELATES, ORIGINAL, undecided(cell.why))
            continue
        row = cell.row_of(table)
        halves, same = _ends(row, "split_half", "n"), _ends(row, "pearson", "n")
        decision = _judged(halves, f"r {_plain(halves)}{_beside(row)}", CORRELATED, "0.7")
        if np.isnan(halves[0]):
            same_images = row["measured_on"] == "the same images"
            reason = "predictions are not stored" if same_images else "accuracies are too few, or do not vary"
            decision = undecided(f"r is not defined on halves of the images: {reason}")
        else:
            decision = _if_they_differ(decision, row)
        yield cell.claim(
            CORRELATES, ORIGINAL, decision, **_numbers(*halves), **_resampled(data, row["resampled"])
        )
        yield cell.claim(
            CORRELATES_ON_SAME,
            ORIGINAL,
            _if_they_differ(_judged(same, f"r {_plain(same)}", CORRELATED, "0.7"), row),
            **_numbers(*same),
        )


def _if_they_differ(decision: Decision, row: dict[str, Any]) -> Decision:
    """The decision, unless it does not hold because the originals differ by no more than the luck of the images."""
    differ = row["originals_differ"]  # or None
    if decision.verdict != HOLDS and isinstance(differ, bool | np.bool_) and not differ:
        return undecided(f"originals do not differ enough: {row['originals_why']}")
    return decision


def _beside(row: dict[str, Any]) -> str:
    known = {"control": row["control_split_half"], "originals with themselves": row["originals_split_half"]}
    return "".join(
        _with_minus(f"; {name} {value:.2f}") for name, value in known.items() if not np.isnan(value)
    )


Ends = tuple[float, float, float, int]  # value, low, high, n


def _ends(row: dict[str, Any], name: str, n: str) -> Ends:
    value, low, high = (float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return value, low, high, int(row[n])


def _judged(ends: Ends, text: str, bound: float, words: str) -> Decision:
    value, low, high, _ = ends
    return met(ends, p_of_bound(value, low, high, bound), text, bound, words)


def _numbers(value: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n}


def _resampled(data: StudyData, over: str) -> dict[str, Any]:
    images = data.n_images if over == MODELS_AND_IMAGES else 0
    return {"images": images, "resampled": over}


def _plain(ends: Ends) -> str:
    return _with_minus(f"{ends[0]:.2f} ({ends[1]:.2f} to {ends[2]:.2f})")


def _with_minus(text: str) -> str:
    """The text with proper minus signs; it has no hyphens."""
    return text.replace("-0.00", "0.00").replace("-", "−")


def _share(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.0f} % ({100 * estimate.low:.0f} to {100 * estimate.high:.0f})"
