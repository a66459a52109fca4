"""Why a table stands apart from the main table of its stream."""

from __future__ import annotations

from ctbench.results.schema import Result


def protocol_reasons(result: Result) -> tuple[str, ...]:
    """Return why the protocol of a run is not comparable; unregistered names have marks of their own and do not count."""
    marked = (f"stream {result.stream.name} is not registered", f"method {result.method.name} is not registered")
    return tuple(reason for reason in result.not_comparable if reason not in marked)


def _base(result: Result) -> str:
    digest = result.backbone.weights_digest
    return f"weights {digest[:8]}" if digest else "unknown weights (result of schema 1)"


def differences_of(main: Result, other: Result) -> tuple[str, ...]:
    """Return the differences between `other` and the main table of the stream."""
    found = list(protocol_reasons(other))
    pairs = {
        "stream version": (main.stream.version, other.stream.version),
        "backbone": (main.backbone.name, other.backbone.name),
        "recipe": (main.recipe.name, other.recipe.name),
        "precision": (main.precision, other.precision),
    }
    found += [f"{name} {theirs} instead of {ours}" for name, (ours, theirs) in pairs.items() if ours != theirs]
    is_same_model = main.backbone.name == other.backbone.name
    if is_same_model and main.backbone.weights_digest != other.backbone.weights_digest:
        found.append(f"another base: {_base(other)} instead of {_base(main)}")
    elif is_same_model and main.backbone.digest != other.backbone.digest:
        is_known = bool(other.backbone.weights_digest)
        words = "the same weights of {}, made in another way" if is_known else "other weights of {}"
        found.append(words.format(other.backbone.name))
    for part in ("base", "pretrain", "finetune"):
        ours, theirs = getattr(main.recipe, part) or {}, getattr(other.recipe, part) or {}
        keys = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        found += [f"{part}.{key} {theirs.get(key)} instead of {ours.get(key)}" for key in keys]
    kinds = main.stream.metric
    for domain, theirs in other.stream.metric.items():
        if kinds.get(domain, theirs) != theirs:
            found.append(f"metric of {domain} {theirs} instead of {kinds[domain]}")
    if main.stream.digest != other.stream.digest:
        found.append("other data")
    return tuple(found) or ("another protocol",)
