"""What computes a node from its spec: the part of the engine that a worker runs."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctbench.backbone import Backbone
from ctbench.data.schema import GENERAL
from ctbench.data.sources import read_texts
from ctbench.data.stream import PretrainRecipe, Stream, reorder
from ctbench.data.tasks import TaskData, encode_task
from ctbench.data.tokens import Blocks, Corpus, corpus
from ctbench.device import check_device, device, device_name, isolated, sharing_gpu
from ctbench.errors import BadPlugin
from ctbench.finetune import finetune, held_out_loss
from ctbench.graph import digest
from ctbench.kernels import keep_freed_memory
from ctbench.loading import load_backbone, load_saved, save_backbone
from ctbench.memory import Tree, num_bytes
from ctbench.method import Method, configure
from ctbench.partial import load_progress, save_progress
from ctbench.plugins import find_plugin, get_stream, load_class
from ctbench.pretrain import Report, Trainer
from ctbench.randomness import seed_from
from ctbench.source import source_digest
from ctbench.store import Store, load_weights, save_weights
from ctbench.tiny import build_tiny

Spec = Mapping[str, Any]
UNKNOWN_SHARE = 0.1
"""From this share on, a stage notes how many tokens of its text the tokenizer does not know."""
_LOOKED_AT = 1000


class Workshop:
    """Computes nodes into a store and keeps what several of them need: streams, corpora, tasks and the base LM.

    Args:
        store: where nodes are read and written.
        cache: folder of packed corpora, shared by all runs.
        save_seconds: wall time between two mid-stage checkpoints.
    """

    def __init__(self, store: Store, cache: Path, *, save_seconds: float = 60.0) -> None:
        keep_freed_memory()
        self.store = store
        self.cache = cache
        self.save_seconds = save_seconds
        self._streams: dict[str, Stream] = {}
        self._bases: dict[tuple[str, str], tuple[Backbone, dict[str, Tensor]]] = {}
        self._corpora: dict[tuple[str, str], Corpus] = {}
        self._tasks: dict[tuple[str, str], TaskData] = {}
        self._methods: dict[str, Method] = {}

    def compute(self, spec: Spec, report: Report | None = None) -> bool:
        """Compute a node unless the store has it.

        Args:
            spec: what `Node.spec` gives.
            report: told how far a base or a stage is.

        Returns:
            Whether anything was computed.

        Raises:
            BadConfig: the node's key says that another kind of device computes it.
            RunFailed: the memory of the GPU does not suffice.
        """
        key = spec["key"]
        if self.store.has(key):
            return False
        check_device(spec["identity"].get("device", "cpu"))
        with self.store.lock(key):
            if self.store.has(key):
                return False
            with sharing_gpu(thoroughly=spec["kind"] in ("base", "stage")):
                getattr(self, f"_compute_{spec['kind']}")(spec, report)
        return True

    # The four kinds of nodes

    def _compute_base(self, spec: Spec, report: Report | None) -> None:
        stream = self._stream(spec["how"])
        assert stream.general is not None and stream.recipe.base is not None
        texts, seed = read_texts(stream, stream.general, domain=None), spec["identity"]["seed"]
        with isolated(threads=1):
            backbone = build_tiny(texts, seed=seed_from(seed, [GENERAL], "weights") >> 1)
        recipe = _resolved(stream.recipe.base, spec)
        blocks = {GENERAL: self._blocks(stream, GENERAL, backbone, recipe.length, held_out=False)}
        trainer = Trainer(
            method=Method(),
            backbone=backbone.to(device()),
            memory={},
            blocks=blocks,
            recipe=recipe,
            num_steps=recipe.num_steps,
            seed=seed,
            load_teacher=lambda: copy.deepcopy(backbone),
        )
        record = self._train(trainer, spec, report)
        state = backbone.state()
        record |= {"weights_digest": _digest(state), "parameters": _num_parameters(backbone)}
        with self._writing(spec, record) as folder:
            save_backbone(backbone, folder)

    def _compute_stage(self, spec: Spec, report: Report | None) -> None:
        how, identity = spec["how"], spec["identity"]
        stream, method = self._stream(how), self._method(spec)
        recipe = _resolved(stream.recipe.pretrain, spec)
        parent = next(iter(spec["parents"]), None)  # None: a checkpoint that was given
        backbone, memory = self._restore(spec, parent)
        before = _digest(backbone.state())
        blocks = {
            name: self._blocks(stream, name, backbone, recipe.length, held_out=False) for name in identity["domains"]
        }
        trainer = Trainer(
            method=method,
            backbone=backbone.to(device()),
            memory=memory,
            blocks=blocks,
            recipe=recipe,
            num_steps=identity["num_steps"],
            seed=identity["seed"],
            load_teacher=lambda: self._restore(spec, parent)[0],
        )
        if (share := _unknown_share(blocks, backbone.tokenizer)) >= UNKNOWN_SHARE:
            trainer.stage.note(unknown_share=share)
        record = self._train(trainer, spec, report)
        state = backbone.state()
        record |= {"weights_digest": _digest(state), "changed": _digest(state) != before}
        record |= self._size(backbone, how, trainer.stage.memory)
        with self._writing(spec, record) as folder:
            save_weights(folder / "weights.safetensors", state, self._base(how)[1])
            self.store.save_tree(folder, "memory", trainer.stage.memory)

    def _compute_loss(self, spec: Spec, _report: Report | None) -> None:
        how, identity = spec["how"], spec["identity"]
        stream = self._stream(how)
        recipe = _resolved(stream.recipe.pretrain, spec)
        losses, num_tokens = {}, 0
        with isolated(threads=recipe.threads):
            for name in identity["domains"]:
                backbone = self._adapted(spec, name).to(device())
                losses[name], tokens = held_out_loss(
                    backbone,
                    self._blocks(stream, name, backbone, recipe.length, held_out=True),
                    domain=name,
                    mask_fraction=recipe.mask_fraction,
                    max_tokens=recipe.held_out_tokens,
                    precision=recipe.precision,
                )
                num_tokens += tokens
        base = self._base(how)[0]
        record = {
            "losses": losses,
            "tokens": num_tokens,
            "parameters": _num_parameters(base),
            "notes": list(base.notes),
        }
        record |= {"objective": base.objective}
        with self._writing(spec, record):
            pass

    def _compute_cell(self, spec: Spec, _report: Report | None) -> None:
        how, identity = spec["how"], spec["identity"]
        stream, name = self._stream(how), identity["domain"]
        recipe = dataclasses.replace(stream.recipe.finetune, precision=identity["precision"])
        backbone = self._adapted(spec, name).to(device())
        task = self._task(stream, name, backbone)
        record = {"majority": task.majority} | finetune(
            backbone,
            task,
            name=name,
            recipe=recipe,
            seed=identity["seed"],
            pad_id=backbone.pad_id,
        )
        with self._writing(spec, record):
            pass

    def _writing(self, spec: Spec, record: dict[str, Any]) -> contextlib.AbstractContextManager[Path]:
        """Write a node; `plan` judges by what it was computed with how long others will take."""
        work = {"model": spec["how"]["model"], "precision": spec["identity"]["precision"]}
        work |= {"epochs": spec["identity"]["recipe"].get("epochs"), "device": device_name(), "on": device().type}
        work |= {"compiled": spec["identity"].get("compiled", False)}
        return self.store.writing(spec["key"], record | {"work": work})

    # What they are made of

    def _train(self, trainer: Trainer, spec: Spec, report: Report | None) -> dict[str, Any]:
        folder = self.store.partial(spec["key"])
        return trainer.run(
            progress=load_progress(self.store, folder),
            report=report,
            save=lambda progress: save_progress(self.store, folder, progress),
            save_seconds=self.save_seconds,
        )

    def _stream(self, how: Spec) -> Stream:
        key = digest({name: how[name] for name in ("stream", "recipe", "settings", "order")})
        if key not in self._streams:
            stream = get_stream(how["stream"], recipe=how["recipe"], settings=how["settings"])
            self._streams[key] = reorder(stream, how["order"], allow_temporal=True)
        return self._streams[key]

    def _method(self, spec: Spec) -> Method:
        how, wanted = spec["how"], spec["identity"]["method"]
        if how["method"] is None:
            return Method()
        key = digest(wanted)
        if key not in self._methods:
            plugin = find_plugin("method", how["method"])
            if source_digest(plugin) != wanted["digest"]:
                raise BadPlugin(f"method '{plugin.name}' was edited while it ran; run it again")
            self._methods[key] = configure(load_class(plugin), plugin.name, wanted["settings"])
        return self._methods[key]

    def _base(self, how: Spec) -> tuple[Backbone, dict[str, Tensor]]:
        """Return the untouched LM, to be copied and never to be trained, with its state."""
        objective = self._stream(how).recipe.pretrain.objective
        key = how["base"] or how["model"], objective
        if key not in self._bases:
            self._bases.clear()
            if how["base"] is not None:
                backbone = load_saved(self.store.folder(how["base"]))
            else:
                backbone = load_backbone(how["model"], online=how["online"], objective=objective)
            self._bases[key] = backbone, backbone.state()
        return self._bases[key]

    def _restore(self, spec: Spec, source: str | None) -> tuple[Backbone, Tree]:
        """Return the LM of a stage, or what a first stage starts from, with its memory."""
        how = spec["how"]
        base, base_state = self._base(how)
        method, stream = self._method(spec), self._stream(how)
        backbone = copy.deepcopy(base)
        with isolated(threads=1):
            torch.manual_seed(seed_from(spec["identity"]["build_seed"], stream.names, "build") >> 1)
            backbone = method.build(backbone, stream)
        if source is None or source == how["base"]:
            return backbone, {}
        folder = self.store.folder(source)
        backbone.load_state(load_weights(folder / "weights.safetensors", base_state))
        return backbone, self.store.load_tree(folder, "memory")

    def _adapted(self, spec: Spec, domain: str) -> Backbone:
        """Return what a cell fine-tunes."""
        identity, how = spec["identity"], spec["how"]
        if identity["stage"] == 0:
            return copy.deepcopy(self._base(how)[0])
        method, stream = self._method(spec), self._stream(how)
        backbone, _ = self._restore(spec, spec["parents"][0])
        with isolated(threads=1):
            torch.manual_seed(seed_from(identity["build_seed"], [domain], "adapt") >> 1)
            return method.adapt(backbone, stream, domain, identity["stage"])

    def _size(self, backbone: Backbone, how: Spec, memory: Tree) -> dict[str, int]:
        base = self._base(how)[0]
        known = {name for name, _ in base.named_buffers()}
        buffers = [buffer for name, buffer in backbone.named_buffers() if name not in known]
        return {
            "added_parameters": _num_parameters(backbone) - _num_parameters(base),
            "stored_bytes": num_bytes(memory) + sum(buffer.numel() * buffer.element_size() for buffer in buffers),
        }

    def _blocks(self, stream: Stream, name: str, backbone: Backbone, length: int, *, held_out: bool) -> Blocks:
        key = (digest({"stream": stream.name, "settings": repr(stream), "tokenizer": backbone.digest}), name)
        if key not in self._corpora:
            domain = None if name == GENERAL and GENERAL not in stream.names else stream.domain(name)
            self._corpora[key] = corpus(stream, domain, tokenizer=backbone.tokenizer, cache=self.cache)
        file = self._corpora[key].held_out if held_out else self._corpora[key].train
        return Blocks(file, length, cls_id=backbone.tokenizer.cls_token_id if backbone.objective == "mlm" else None)

    def _task(self, stream: Stream, name: str, backbone: Backbone) -> TaskData:
        key = (digest({"stream": stream.name, "settings": repr(stream), "tokenizer": backbone.digest}), name)
        if key not in self._tasks:
            self._tasks[key] = encode_task(
                stream, stream.domain(name), backbone.tokenizer, max_length=stream.recipe.finetune.max_length
            )
        return self._tasks[key]


def _resolved(recipe: PretrainRecipe, spec: Spec) -> PretrainRecipe:
    identity = spec["identity"]
    return dataclasses.replace(recipe, precision=identity["precision"], compiled=identity.get("compiled", False))


def _unknown_share(blocks: Mapping[str, Blocks], tokenizer: Any) -> float:
    """Return the share of unknown tokens in the first blocks of a stage's text; 0 where that token has another use."""
    if tokenizer.unk_token_id in (None, tokenizer.eos_token_id, tokenizer.sep_token_id):
        return 0.0
    read = [each[np.arange(min(len(each), _LOOKED_AT))] for each in blocks.values()]
    return float((np.concatenate(read) == tokenizer.unk_token_id).mean())


def _num_parameters(backbone: Backbone) -> int:
    return sum(parameter.numel() for parameter in backbone.parameters())


def _digest(state: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name in sorted(state):
        sha.update(name.encode())
        sha.update(state[name].contiguous().numpy().tobytes())
    return sha.hexdigest()
