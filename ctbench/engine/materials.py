"""What nodes are made of, kept between the nodes of one process: streams, methods, the base LM, corpora, end tasks."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctbench.backbone import Backbone
from ctbench.backbone.checkpoint import MADE
from ctbench.backbone.loading import load_backbone, load_saved
from ctbench.backbone.tiny import build_tiny
from ctbench.data.schema import GENERAL
from ctbench.data.sources import read_texts
from ctbench.data.stream import Stream, reorder
from ctbench.data.tasks import EndTask, encode_task
from ctbench.data.tokens import Blocks, Corpus, corpus
from ctbench.engine.bases import require_shipped
from ctbench.engine.identity import BaseIdentity, MethodIdentity
from ctbench.engine.node import Lookup, digest
from ctbench.engine.records import StoredStage
from ctbench.engine.resume import load_branching
from ctbench.engine.store import OTHER_BITS, Store, unreadable
from ctbench.engine.tensors import load_changed, load_tensors, load_tree
from ctbench.errors import BadPlugin, RunFailed
from ctbench.machine.device import isolated
from ctbench.machine.manifest import PASSING, Damaged, verify_files
from ctbench.memory import Tree
from ctbench.method import Method, configure, returned_backbone
from ctbench.plugins.find import find_plugin, get_stream, load_class
from ctbench.plugins.source import source_digest
from ctbench.randomness import seed_from
from ctbench.training.checkpoint import StageCheckpoint, finished


class Materials:
    """Reads what nodes need, once per process where several nodes share it.

    Args:
        store: where nodes are read.
        corpora: folder of packed text, shared by all runs.
    """

    def __init__(self, store: Store, corpora: Path) -> None:
        self.store = store
        self.corpora = corpora
        self._streams: dict[str, Stream] = {}
        self._methods: dict[str, Method] = {}
        self._base: tuple[object, Backbone, dict[str, Tensor]] | None = None
        self._base_digest: str | None = None
        self._corpora: dict[str, Corpus] = {}
        self._tasks: dict[str, EndTask] = {}

    def stream(self, lookup: Lookup) -> Stream:
        """Return the stream of a node, its domains in the order of the run."""
        key = digest([lookup.stream, lookup.recipe, dict(lookup.settings), lookup.order])
        if key not in self._streams:
            stream = get_stream(lookup.stream, recipe=lookup.recipe, settings=lookup.settings)
            self._streams[key] = reorder(stream, lookup.order, allow_temporal=True)
        return self._streams[key]

    def method(self, lookup: Lookup, wanted: MethodIdentity | None) -> Method:
        """Return the method of a node.

        Raises:
            BadPlugin: its file was edited after the graph was made.
        """
        if lookup.method is None or wanted is None:
            return Method()
        key = digest([wanted.name, wanted.digest, dict(wanted.settings)])
        if key not in self._methods:
            plugin = find_plugin("method", lookup.method)
            if source_digest(plugin) != wanted.digest:
                raise BadPlugin(f"method '{plugin.name}' was edited while it ran; run the same command again")
            self._methods[key] = configure(load_class(plugin), plugin.name, wanted.settings)
        return self._methods[key]

    def base(self, lookup: Lookup) -> tuple[Backbone, dict[str, Tensor]]:
        """Return the untouched LM, to be copied and never to be trained, with its state."""
        objective = self.stream(lookup).recipe.pretrain.objective
        key = lookup.base or (lookup.stream, lookup.model), objective
        if self._base is None or self._base[0] != key:
            self._base = self._base_digest = None
            if lookup.base is not None:
                backbone = self.saved(lookup.base)
            elif lookup.model in MADE:
                backbone = load_saved(require_shipped(self.stream(lookup), lookup.model))
            else:
                backbone = load_backbone(lookup.model, online=lookup.online, objective=objective)
            self._base = key, backbone, backbone.state()
        return self._base[1:]

    def untrained(self, lookup: Lookup, identity: BaseIdentity, parent: str | None) -> Backbone:
        """Return the LM that a base node trains: a new one, a checkpoint, or what the node `parent` left."""
        stream = self.stream(lookup)
        if parent is not None:
            return self.saved(parent)
        if not identity.model:
            objective = stream.recipe.pretrain.objective
            return load_backbone(lookup.model, online=lookup.online, objective=objective)
        assert stream.general is not None
        texts = read_texts(stream, stream.general, domain=None)
        with isolated(threads=1):
            seed = seed_from(identity.seed, [GENERAL], "weights") >> 1
            return build_tiny(texts, seed=seed, name=identity.model)

    def saved(self, key: str) -> Backbone:
        """Return the LM of a base node."""
        with self.reading(key) as folder:
            verify_files(folder)
            return load_saved(folder)

    def base_digest(self, lookup: Lookup) -> str:
        """Return the SHA-256 of the untouched LM's weights."""
        _, state = self.base(lookup)
        if self._base_digest is None:
            self._base_digest = state_digest(state)
        return self._base_digest

    def restore(self, lookup: Lookup, method: Method, build_seed: int, source: str | None) -> tuple[Backbone, Tree]:
        """Return the LM of a stage, or what a first stage starts from, with its memory.

        Args:
            lookup: where things are found.
            method: builds the LM.
            build_seed: seed of the modules that the method adds.
            source: key of the stage's node; None or the base's key for the untouched LM.
        """
        base, base_state = self.base(lookup)
        stream = self.stream(lookup)
        backbone = copy.deepcopy(base)
        with isolated(threads=1):
            torch.manual_seed(seed_from(build_seed, stream.names, "build") >> 1)
            backbone = returned_backbone(method.build(backbone, stream), method, "build")
        if source is None or source == lookup.base:
            return backbone, {}
        with self.reading(source) as folder:
            record = self.store.read(source)
            assert isinstance(record, StoredStage)
            backbone.load_state(load_changed(folder, "weights", base_state))
            if state_digest(backbone.state()) != record.weights_digest:
                raise Damaged(OTHER_BITS)
            return backbone, load_tree(folder, "memory")

    def carried(self, lookup: Lookup, source: str | None) -> dict[str, Tensor]:
        """Return the optimiser's state after the stage of a node; empty for the untouched LM."""
        if source is None or source == lookup.base:
            return {}
        with self.reading(source) as folder:
            return load_tensors(folder, "optimizer")

    def branching(self, lookup: Lookup, trunk: str) -> StageCheckpoint:
        """Return the state of a trunk from which its branch goes on."""
        with self.reading(trunk) as folder:
            return load_branching(folder, self.base(lookup)[1])

    def made(self, lookup: Lookup, source: str, *, carries: bool) -> StageCheckpoint:
        """Return the end of another method's stage, with the optimiser's state if a next stage `carries` it on."""
        with self.reading(source) as folder:
            record = self.store.read(source)
            assert isinstance(record, StoredStage)
            weights = load_changed(folder, "weights", self.base(lookup)[1])
            return finished(record.training, weights, load_tensors(folder, "optimizer") if carries else {})

    def blocks(self, lookup: Lookup, name: str, length: int, *, held_out: bool = False) -> Blocks:
        """Return the packed text of a domain, or the general text, in blocks for the base's tokenizer."""
        return self.blocks_for(self.base(lookup)[0], lookup, name, length, held_out=held_out)

    def blocks_for(
        self, backbone: Backbone, lookup: Lookup, name: str, length: int, *, held_out: bool = False
    ) -> Blocks:
        """Return the packed text of a domain, or the general text, in blocks for a given backbone's tokenizer.

        General text may be too short to hold a block of it out; no run fails because of that.
        """
        stream = self.stream(lookup)
        key = digest([stream.name, repr(stream), backbone.digest, name])
        if key not in self._corpora:
            domain = None if name == GENERAL and GENERAL not in stream.names else stream.domain(name)
            self._corpora[key] = corpus(stream, domain, tokenizer=backbone.tokenizer, cache=self.corpora)
        file = self._corpora[key].held_out if held_out else self._corpora[key].train
        cls_id = backbone.tokenizer.cls_token_id if backbone.objective == "mlm" else None
        return Blocks(file, length, cls_id=cls_id, may_be_empty=held_out and name not in stream.names)

    def task(self, lookup: Lookup, name: str) -> EndTask:
        """Return the encoded end task of a domain."""
        stream, backbone = self.stream(lookup), self.base(lookup)[0]
        key = digest([stream.name, repr(stream), backbone.digest, name])
        if key not in self._tasks:
            max_length = stream.recipe.finetune.max_length
            self._tasks[key] = encode_task(stream, stream.domain(name), backbone.tokenizer, max_length=max_length)
        return self._tasks[key]

    def reading(self, key: str) -> _Reading:
        """Return a context that gives the folder of a node and sets the node aside if it proves damaged."""
        return _Reading(self.store, key)


class _Reading:
    """The folder of a node while it is read."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key

    def __enter__(self) -> Path:
        self._store.wait_for(self._key)
        return self._store.folder(self._key)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, OSError) and error.errno in PASSING:
            raise unreadable(self._key, error) from error
        if isinstance(error, Damaged | FileNotFoundError):
            if self._store.folder(self._key).is_dir():
                self._store.set_aside(self._key)
            raise RunFailed(
                f"node {self._key[:16]} of the store was damaged ({error}) and is set aside; run the same command again"
            ) from error


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of all weights, names included."""
    sha = hashlib.sha256()
    for name in sorted(state):
        sha.update(name.encode())
        sha.update(state[name].contiguous().numpy().tobytes())
    return sha.hexdigest()
