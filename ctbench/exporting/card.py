"""The model card of an exported LM: where it comes from, what was measured, and how it is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ctbench.errors import one_line
from ctbench.plans import BASE
from ctbench.reporting.reproduce import command_line
from ctbench.results.schema import Result

if TYPE_CHECKING:
    from ctbench.exporting.source import RowLM


def model_card(result: Result, row: RowLM, *, architecture: str, loader: str) -> str:
    """Return the card of the LM of a row, as Markdown with the metadata that the Hugging Face hub reads.

    Args:
        result: the run.
        row: the LM, before it was baked.
        architecture: transformers' class of the model.
        loader: the automatic class that loads it.
    """
    parts = [_metadata(result), _title(result, row), _about(result, row), _scores(result, row)]
    return "\n\n".join([*parts, _usage(result, loader), _origin(result, architecture)]) + "\n"


def _metadata(result: Result) -> str:
    is_encoder = result.backbone.objective == "mlm"
    lines = [
        "library_name: transformers",
        f"pipeline_tag: {'fill-mask' if is_encoder else 'text-generation'}",
        "tags: [ctbench, continual-pretraining]",
    ]
    base, _, _ = result.backbone.name.partition("@")
    if "/" in base:
        lines.append(f"base_model: {json.dumps(base)}")
    return "\n".join(["---", *lines, "---"])


def _title(result: Result, row: RowLM) -> str:
    if row.stage == BASE:
        return f"# {result.backbone.name} before any stage of {result.method.name} on {result.stream.name}"
    context = f", for the context {_context(row.context)}" if row.context else ""
    return f"# {result.backbone.name} after row {row.row} of {result.method.name} on {result.stream.name}{context}"


def _context(context: str) -> str:
    return f"`{one_line(context).rpartition('/')[2]}`"


def _about(result: Result, row: RowLM) -> str:
    method, stream = result.method, result.stream
    settings = ", ".join(f"`{name}` {value}" for name, value in method.settings.items()) or "none"
    lines = [
        f"- **Method**: `{method.name}` version {method.version}: {method.summary or 'no summary'}"
        + (f" ({method.paper})" if method.paper else ""),
        f"- **Its settings**: {settings}",
        f"- **Stream**: `{stream.name}` version {stream.version}, of kind {stream.kind}: {stream.summary}",
        f"- **Domains in order**: {', '.join(stream.domains)}",
        f"- **Trained on**: {', '.join(_trained_on(result, row)) or 'none of them: this is the base'}",
        f"- **Base**: `{result.backbone.name}`, {result.backbone.parameters:,} parameters; run seed {result.seed}",
    ]
    if row.text is not None:
        lines.append(
            f"- **Context**: the LM of this method depends on what its texts are about; here the condition that "
            f"{row.text.input_ids.numel():,} tokens of {_context(row.context or '')} give is part of the weights"
        )
    return "\n".join(lines)


def _trained_on(result: Result, row: RowLM) -> list[str]:
    """Return the domains of the stage and of all stages that it goes on from, in that order."""
    found: list[str] = []
    stage = row.stage
    while stage:
        found = [*result.plan.stages[stage - 1], *found]
        stage = result.plan.parents[stage - 1]
    return list(dict.fromkeys(found))


def _scores(result: Result, row: RowLM) -> str:
    lines = [
        "Scores of row "
        f"{row.row} after fine-tuning on the end task of each domain (percent, mean over fine-tuning seeds), and the LM "
        "loss on held-out text (nats per predicted token). "
        "The checkpoint is the LM before fine-tuning." + _of_context(row),
        "",
        "| domain | metric | score | LM loss |",
        "| --- | --- | ---: | ---: |",
        *_score_lines(result, row),
    ]
    if (others := len(result.stream.domains) - len(_served(result, row))) > 0:
        what = "domain is" if others == 1 else "domains are"
        lines += ["", f"{others} {what} not listed: in this row another LM serves them, or none does."]
    means = [f"{name} {100 * value:.1f}" for name, value in result.metrics.items() if value is not None]
    together = ", over all its LMs" if others else ""
    return "\n".join([*lines, "", f"Metrics of the whole run{together}, in percent: {', '.join(means) or 'none'}."])


def _of_context(row: RowLM) -> str:
    return " Scores and losses were measured with a context for each text, not with this one." if row.text else ""


def _score_lines(result: Result, row: RowLM) -> Iterator[str]:
    for index in _served(result, row):
        name = result.stream.domains[index]
        score, loss = float(result.matrix[row.row, index]), float(result.lm_loss[row.row, index])
        shown = "–" if score != score else f"{100 * score:.1f}"
        yield f"| {name} | {result.stream.metric[name]} | {shown} | {'–' if loss != loss else f'{loss:.4f}'} |"


def _served(result: Result, row: RowLM) -> list[int]:
    """Return the columns of the row that were measured with this very LM."""
    is_adapted = row.stage != BASE and result.method.traits.needs_domain  # to one domain, so it serves no other
    return [
        index
        for index, (source, name) in enumerate(zip(result.plan.cells[row.row], result.stream.domains, strict=True))
        if source == row.stage and (not is_adapted or name == row.context)
    ]


def _usage(result: Result, loader: str) -> str:
    model = "hf-mlm" if result.backbone.objective == "mlm" else "hf"
    code = (
        "```python\n"
        f"from transformers import {loader}, AutoTokenizer\n\n"
        f'model = {loader}.from_pretrained("FOLDER")\n'
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
        "```"
    )
    if model == "hf":
        code += (
            "\n\nlm-evaluation-harness reads it with `lm_eval --model hf --model_args pretrained=FOLDER --tasks TASK`."
        )
    return code


def _origin(result: Result, architecture: str) -> str:
    made = result.provenance
    return "\n".join(
        [
            f"`{architecture}`, written by ctbench {made.ctbench} from the result `{result.key}`. Reproduce the run:",
            "",
            f"    {command_line(result)}",
            "",
            f"Made with torch {made.torch} and transformers {made.transformers}, on {made.date}. The licence is that of the "
            "base and of the texts of the stream.",
        ]
    )
