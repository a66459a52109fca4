"""The protocol under which trials run: another language than the reported one, and validation texts to judge them."""

from __future__ import annotations

from collections.abc import Mapping

from ctbench.data.knobs import Language
from ctbench.data.stream import Stream
from ctbench.data.tasktables import SyntheticTask
from ctbench.errors import BadConfig
from ctbench.plugins.find import get_stream

LANGUAGE_SEED = 7
"""Seed of the language that synthetic streams are tuned on by default."""


def tuning_settings(
    stream: str,
    settings: Mapping[str, str],
    *,
    recipe: str | None = None,
    language_seed: int | None = None,
    allow_reported: bool = False,
) -> dict[str, str]:
    """Return the settings of a stream's protocol that trials override.

    Raises:
        BadConfig: the trials would use the stream's own language, or a task has no validation texts.

    Examples:
        >>> tuning_settings("domain", {})
        {'finetune.seeds': '[0]', 'language.seed': '7'}
    """
    own = get_stream(stream, recipe=recipe)
    found = {"finetune.seeds": "[0]", **settings}
    if language_seed is not None:
        if "language.seed" in settings:
            raise BadConfig("--language-seed and --set language.seed set the same thing; give one of them")
        found["language.seed"] = str(language_seed)
    if own.language is not None:
        found.setdefault("language.seed", str(LANGUAGE_SEED))
        if own.language.num_validation == 0:
            found.setdefault("language.num_validation", str(Language.num_validation))
    tuned = get_stream(stream, recipe=recipe, settings=found)
    _check_language(own, tuned, allow_reported=allow_reported)
    _check_validation(tuned)
    return found


def _check_language(own: Stream, tuned: Stream, *, allow_reported: bool) -> None:
    if own.language is None or tuned.language is None or allow_reported:
        return
    if own.language.seed == tuned.language.seed:
        raise BadConfig(
            f"language seed {own.language.seed} is the reported language of stream {own.name}, and tuning on it would favour "
            f"the method; choose another seed with --language-seed (default {LANGUAGE_SEED}) or add --allow-reported"
        )


def _check_validation(stream: Stream) -> None:
    lacking = []
    for domain in stream.domains:
        if isinstance(domain.task, SyntheticTask):
            has_validation = stream.language is not None and stream.language.num_validation > 0
        else:
            has_validation = domain.task.validation is not None
        lacking += [] if has_validation else [domain.name]
    if lacking:
        key = "language.num_validation" if stream.language else "`validation` of [domains.task]"
        raise BadConfig(
            f"stream {stream.name} has no validation texts for {', '.join(lacking)}, which the trials are judged by; set {key}"
        )
