"""What a run would refuse, found before anything is computed: `run`, `plan` and `check` ask here alike."""

from __future__ import annotations

import copy
import itertools
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ctbench.backbone.checkpoint import MADE, weight_bytes
from ctbench.backbone.objective import objective_of
from ctbench.backbone.tokenizer import load_saved_tokenizer, load_tokenizer
from ctbench.data.choices import require_decoder
from ctbench.data.schema import Domain, SyntheticText
from ctbench.data.sources import read_texts
from ctbench.data.split import CorpusSize
from ctbench.data.stream import Stream
from ctbench.data.tasks import check_task, encode_task
from ctbench.data.tasktables import GENERATIVE
from ctbench.data.tokens import corpus, corpus_size
from ctbench.engine.bases import require_base, require_warm_up, warms_up
from ctbench.errors import BadConfig, BadData, BadPlugin, CTBenchError, code_place, first_line

if TYPE_CHECKING:
    from ctbench.backbone import Backbone
    from ctbench.method import Method

WORDS_PER_CLAUSE = 3
"""Of the synthetic language; every word is at least one token."""
SAID_BYTES = 50_000_000
"""It is said that a checkpoint with weights of so many bytes is loaded."""
SAID_SECONDS = 3.0
"""It is said that a text is packed when it has taken so long."""
MAX_TRIED_BYTES = 4_000_000_000
"""Checkpoints with larger weights are not loaded to be tried; of them the configuration and the tokenizer are checked."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is to be run.

    Args:
        stream: the stream.
        model: an embedded model, a Hugging Face id, or a folder.
        online: whether the network may be used.
        methods: configured methods by a name for messages; each builds what it adds.
        base: folder of the base of an embedded model, if there is one: its tokenizer need not be built again.
        reads_general: whether a stage reads general text: the control's, or that of a method.
    """

    stream: Stream
    model: str
    online: bool = False
    methods: Mapping[str, Method] = field(default_factory=dict)
    base: Path | None = None
    reads_general: bool = False


def require_names(names: Mapping[str, str]) -> None:
    """Refuse names that a result could not be written under.

    Args:
        names: the names by what they are of ("model", "stream").

    Raises:
        BadConfig: a name is no text in this locale, or cannot be the name of a file here.
    """
    for what, name in names.items():
        try:
            name.encode("utf-8")
            os.fsencode(name)
        except UnicodeError:
            shown = os.fsencode(name).decode("utf-8", "replace") if _is_escaped(name) else name
            raise BadConfig(
                f"the name of the {what}, '{shown}', cannot be written in this locale; "
                "set LC_ALL=C.UTF-8 or PYTHONUTF8=1, or rename it"
            ) from None


def _is_escaped(name: str) -> bool:
    """Tell whether a name came from bytes that are no text in this locale."""
    try:
        os.fsencode(name)
    except UnicodeError:
        return False
    return True


def _raise(_name: str, error: CTBenchError) -> None:
    raise error


def _ignore(_line: str) -> None:
    pass


def examine(
    setup: Setup,
    *,
    corpora: Path,
    packs: bool,
    refuse: Callable[[str, CTBenchError], None] = _raise,
    say: Callable[[str], None] = _ignore,
) -> tuple[CorpusSize, ...]:
    """Load the model and read all data of a run, so that whatever is wrong with them is found before any computing.

    Args:
        setup: what is to be run.
        corpora: folder of packed corpora.
        packs: whether the corpora may be packed there, for the run; otherwise they are only counted.
        refuse: called with the name of a method that fails to build what it adds, and why; by default it is raised.
        say: called with a line about everything that may take long.

    Returns:
        How much of every text is trained on and held out; large synthetic texts are left out.

    Raises:
        CTBenchError: the run would be refused, or would fail.
    """
    stream = setup.stream
    if any(domain.task.kind in GENERATIVE for domain in stream.domains):
        objective = objective_of(setup.model, stream.recipe.pretrain.objective, online=setup.online)
        require_decoder(objective, model=setup.model)
    backbone = _load(setup, say)
    if backbone is not None:
        for name, method in setup.methods.items():
            try:
                _try_build(method, backbone, stream)
            except CTBenchError as error:
                refuse(name, error)
    needed = [domain for domain in (None, *stream.domains) if _is_looked_at(setup, domain)]
    if setup.model in MADE:
        for domain in stream.domains:
            check_task(stream, domain)
        tokenizer = _made_tokenizer(setup) if needed else None
    else:
        tokenizer = backbone.tokenizer if backbone else load_tokenizer(setup.model, online=setup.online)
        for domain in stream.domains:
            _require_fitting_examples(stream, domain, tokenizer, backbone)
    if packs:
        for each in needed:
            _pack(stream, each, tokenizer, corpora, say)
    return tuple(_examine_text(setup, each, tokenizer, corpora=corpora) for each in needed)


def _load(setup: Setup, say: Callable[[str], None]) -> Backbone | None:
    """Load a checkpoint that is not too large to be tried; an embedded model is made."""
    if setup.model in MADE:
        require_base(setup.stream, setup.model)
        return _made(setup) if setup.methods else None
    require_warm_up(setup.stream)
    load_tokenizer(setup.model, online=setup.online)  # says what is wrong sooner than the weights do
    if weight_bytes(setup.model) > MAX_TRIED_BYTES:
        return None
    from ctbench.backbone.loading import load_backbone

    if weight_bytes(setup.model) >= SAID_BYTES:
        say(f"loading {setup.model}")
    recipe = setup.stream.recipe.pretrain
    backbone = load_backbone(setup.model, online=setup.online, objective=recipe.objective)
    _ = backbone.pad_id, backbone.objective == "clm" or backbone.mask_id  # refused if they are missing
    if backbone.max_length is not None and recipe.length > backbone.max_length:
        raise BadConfig(
            f"pretrain.length is {recipe.length}, and model '{backbone.name}' takes texts of at most "
            f"{backbone.max_length} tokens; lower it"
        )
    if warms_up(setup.stream):
        _require_own_head(setup.stream, backbone)
    return backbone


def _require_own_head(stream: Stream, backbone: Backbone) -> None:
    """Refuse a warm-up that the checkpoint cannot have."""
    from ctbench.backbone.hooks import head_parameters

    base = stream.recipe.base
    if base is not None and backbone.max_length is not None and base.length > backbone.max_length:
        raise BadConfig(
            f"base.length is {base.length}, and model '{backbone.name}' takes texts of at most "
            f"{backbone.max_length} tokens; lower it"
        )
    if not head_parameters(backbone.model):
        raise BadConfig(
            f"base.warmup trains the LM head alone first, and that of model '{backbone.name}' has no weights of its own: "
            "it is tied to the input embeddings; set base.warmup=none"
        )


def _made(setup: Setup) -> Backbone:
    """Return an embedded model that methods can be tried on: its base if that is there, else one of the same shape."""
    from ctbench.backbone.loading import load_saved
    from ctbench.backbone.tiny import build_tiny
    from ctbench.machine.device import isolated

    if setup.base is not None:
        return load_saved(setup.base)
    with isolated(threads=1):
        return build_tiny((f"word{number}" for number in range(_TRIED_WORDS)), seed=0, name=setup.model)


_TRIED_WORDS: Final = 500


def _try_build(method: Method, backbone: Backbone, stream: Stream) -> None:
    from ctbench.machine.device import isolated
    from ctbench.method import returned_backbone

    name = type(method).__name__.lower()
    try:
        with isolated(threads=1):
            built = returned_backbone(method.build(copy.deepcopy(backbone), stream), method, "build")
    except CTBenchError:
        raise
    except (Exception, SystemExit) as error:  # a method may be third-party code
        said = f"{type(error).__name__}: {first_line(error)}{code_place(error)}"
        raise BadPlugin(f"build of method '{name}' failed: {said}") from error
    if stream.recipe.pretrain.shard_weights:
        from ctbench.training.together import require_shardable

        require_shardable(method, built)


def _made_tokenizer(setup: Setup) -> Any:
    if setup.base is not None:
        return load_saved_tokenizer(setup.base)
    from ctbench.backbone.tiny import build_tokenizer

    assert setup.stream.general is not None
    texts = read_texts(setup.stream, setup.stream.general, domain=None)
    return build_tokenizer(texts, objective=MADE[setup.model][0])


def _is_looked_at(setup: Setup, domain: Domain | None) -> bool:
    """Tell whether a text (the general one for None) is used, and not so large and synthetic that it surely suffices."""
    stream = setup.stream
    if domain is None and stream.general is None:
        return False
    source, language = domain.text if domain else stream.general, stream.language
    if language is None or not isinstance(source, SyntheticText):
        return True
    num_documents = (
        min(language.num_documents, language.num_held_out) if domain else language.num_general_documents // 2
    )
    recipes = [stream.recipe.pretrain, *([stream.recipe.base] if stream.recipe.base else [])]
    return WORDS_PER_CLAUSE * language.clauses * num_documents < max(recipe.length for recipe in recipes)


def _require_fitting_examples(stream: Stream, domain: Domain, tokenizer: Any, backbone: Backbone | None) -> None:
    """Refuse examples that the tokenizer fails at, or that are longer than the model's positions."""
    max_length = stream.recipe.finetune.max_length
    task = encode_task(stream, domain, tokenizer, max_length=max_length)
    limit = backbone.max_length if backbone else None
    splits = [split for split in (task.train, task.validation, task.test) if split is not None]
    longest = max(int(split.lengths.max()) for split in splits)
    if backbone is not None and limit is not None and longest > limit:
        raise BadConfig(
            f"finetune.max_length is {max_length}, an example of the task of domain {domain.name} has {longest} tokens, "
            f"and model '{backbone.name}' takes texts of at most {limit}; set finetune.max_length={limit}"
        )


def _pack(stream: Stream, domain: Domain | None, tokenizer: Any, corpora: Path, say: Callable[[str], None]) -> None:
    slow = threading.Timer(SAID_SECONDS, say, (f"packing the {_whose(domain)}",))
    slow.daemon = True
    slow.start()
    try:
        corpus(stream, domain, tokenizer=tokenizer, cache=corpora)
    finally:
        slow.cancel()


def _whose(domain: Domain | None) -> str:
    return f"text of domain {domain.name}" if domain else "general text"


def _examine_text(setup: Setup, domain: Domain | None, tokenizer: Any, *, corpora: Path) -> CorpusSize:
    """Split a text, and refuse one whose parts are too little for a block."""
    stream = setup.stream
    size = corpus_size(stream, domain, tokenizer=tokenizer, cache=corpora)
    parts = {"trained on": size.train_tokens} | ({"held out": size.held_out_tokens} if domain else {})
    tables = {"pretrain": stream.recipe.pretrain} if domain or setup.reads_general else {}
    if domain is None and stream.recipe.base is not None and (setup.model in MADE or warms_up(stream)):
        tables["base"] = stream.recipe.base
    has_first = tokenizer.mask_token_id is not None and tokenizer.cls_token_id is not None
    for (table, recipe), (part, tokens) in itertools.product(tables.items(), parts.items()):
        wanted = recipe.length - has_first
        if tokens < wanted:
            total = size.train_tokens + size.held_out_tokens
            raise BadData(
                f"{_whose(domain)}: {tokens:,} of {total:,} tokens are {part}, and a block of length {recipe.length} needs "
                f"{wanted}: add text or lower {table}.length"
            )
    return size
