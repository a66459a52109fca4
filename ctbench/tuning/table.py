"""The table of a method's trials."""

from __future__ import annotations

from ctbench.reporting.numbers import percent, points
from ctbench.reporting.tables import Cell, Table
from ctbench.tuning.record import Trial, Tuning, is_equal


def trial_table(tuning: Tuning) -> Table:
    """Return the trials of a method, best first, with the defaults and the best marked."""
    on, fields = tuning.tuned_on, tuple(tuning.grid)
    language = "" if on.language_seed is None else f" · language seed {on.language_seed}"
    return Table(
        title=f"{tuning.method.name} · {on.stream} v{on.stream_version}{language} · {on.backbone} · recipe {on.recipe}",
        columns=("place", *fields, "objective % ↑", "± s.e.", "vs defaults", "time", "key", ""),
        rows=tuple(_row(rank, trial, tuning) for rank, trial in enumerate(tuning.ranked, start=1)),
        left=("key", ""),
        notes=(
            f"objective: {tuning.objective}, run seeds {', '.join(map(str, tuning.seeds))}; test scores are not read",
            _extent(tuning),
            *([f"fixed by --set in all trials: {tuning.under}"] if tuning.fixed else []),
            *(f"trial {trial.keys[0][:12]} failed: {line}" for trial in tuning.trials for line in trial.failures),
            *([f"= within one standard error of the best: {tuning.num_equal} trials"] if tuning.num_equal > 1 else []),
            *(f"{name}: {', '.join(map(str, values))} untried" for name, values in tuning.untried.items()),
            *(
                f"{name} = {value} is an end of its range; a better value may lie outside"
                for name, value in tuning.edges.items()
            ),
            tuning.advice,
        ),
    )


def _row(rank: int, trial: Trial, tuning: Tuning) -> tuple[Cell, ...]:
    default = tuning.trials[0].objective
    is_known = trial.objective is not None and default is not None
    gain = None if not is_known or trial.is_default else (trial.objective or 0.0) - (default or 0.0)
    marks = [*(["best"] if rank == 1 and tuning.grid else []), *(["defaults"] if trial.is_default else [])]
    marks += ["="] if tuning.num_equal > 1 and is_equal(tuning.ranked[0], trial) else []
    texts = [str(trial.settings[name]) for name in tuning.grid]
    texts += [
        percent(trial.objective),
        percent(trial.standard_error),
        points(gain),
        f"{trial.seconds:.1f} s",
        trial.keys[0][:12],
        ", ".join(marks),
    ]
    return tuple(Cell(text=text) for text in (str(rank), *texts))


def _extent(tuning: Tuning) -> str:
    if not tuning.grid:
        return "no hyper-parameters to tune: only the defaults were tried"
    if len(tuning.trials) < tuning.num_trials:
        return f"all {tuning.num_points} points of the grid were tried, fewer than the {tuning.num_trials} trials asked for"
    if len(tuning.trials) == tuning.num_points:
        return f"{_points(tuning.num_points)} of the grid {'was' if tuning.num_points == 1 else 'were all'} tried"
    if len(tuning.trials) == 1:
        return f"only the defaults were tried, of a grid of {_points(tuning.num_points)}"
    return f"{len(tuning.trials)} trials: the defaults and a seeded sample of a grid of {tuning.num_points} points"


def _points(count: int) -> str:
    return f"{count} point{'' if count == 1 else 's'}"
