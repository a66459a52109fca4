"""The LM of every method as an ordinary Hugging Face model: equal, or refused with the reason."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import transformers
from method_helpers import QUICK, build, make_blocks, train_stream

from ctbench.backbone.loading import load_backbone
from ctbench.backbone.tokenizer import quiet
from ctbench.errors import BadConfig
from ctbench.exporting.bake import condition_of, is_conditional
from ctbench.exporting.source import RowLM
from ctbench.exporting.write import LOADERS, compare_with, make_plain
from ctbench.masking import Masker
from ctbench.method import Method
from ctbench.plugins.find import find_plugins, get_method
from ctbench.randomness import make_generator

NAMES = list(find_plugins("method"))
REFUSED = {
    **dict.fromkeys(["adapters", "expand", "hat"], "modules of its own"),
    **dict.fromkeys(["prompts", "hyperprompt"], "a prompt stands"),
}
"""What weights cannot hold; every other method is exported."""


@pytest.fixture(scope="module", params=["bert", "llama"])
def place(request, checkpoint, small, tmp_path_factory):
    base = load_backbone(str(checkpoint(request.param, 0.0)))
    return small.stream, base, make_blocks(small.stream, base, tmp_path_factory.mktemp(request.param))


def last_lm(method, stream, base, blocks):
    backbone = train_stream(method, base, stream, blocks)[-1][0]
    stage = len(method.plan(stream).stages)
    return method.adapt(backbone, stream, stream.names[-1], stage).eval()


def rows_of(backbone, shape=(6, 12)):
    return make_generator(0, ["test"], "rows").integers(5, 90, shape)


def masked(backbone):
    return Masker.of(backbone, 0.3)(rows_of(backbone), make_generator(0, ["test"], "masks"))


def row_of(method, backbone):
    text = masked(backbone) if is_conditional(backbone) else None
    return RowLM(backbone=backbone, method=method, row=2, stage=2, text=text)


def written(row, folder: Path):
    model, probe, wanted = make_plain(row)
    with quiet():
        model.save_pretrained(folder)
    row.backbone.tokenizer.save_pretrained(folder)
    return probe, wanted


def loss_of_transformers(folder, objective, batch):
    """Return the LM loss as anybody would compute it: transformers alone, with labels."""
    model = getattr(transformers, LOADERS[objective]).from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(input_ids=batch.input_ids).logits.flatten(0, 1)[batch.positions]
    return float(torch.nn.functional.cross_entropy(logits, batch.targets))


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_lm_has_the_same_lm_loss_or_is_refused(name, place, tmp_path):
    stream, base, blocks = place
    method = get_method(name, **QUICK.get(name, {}))
    backbone = last_lm(method, stream, base, blocks)
    row, batch = row_of(method, backbone), masked(backbone)
    if name in REFUSED:
        with pytest.raises(BadConfig, match=REFUSED[name]):
            make_plain(row)
        return
    with torch.no_grad():
        wanted = float(backbone(batch, prompt=condition_of(backbone, row.text, batch)).loss)
        untouched = float(base(batch).loss)
    written(row, tmp_path)
    found = loss_of_transformers(tmp_path, base.objective, batch)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert found != pytest.approx(untouched, rel=1e-6)


@pytest.mark.parametrize("kind", ["bert", "electra", "gpt2", "untied"])
@pytest.mark.parametrize("places", ["both", "in", "out"])
def test_a_map_is_baked_into_tied_and_untied_embeddings(kind, places, checkpoint, small, tmp_path):
    base = load_backbone(str(checkpoint("bert" if kind == "untied" else kind, 0.0)))
    if kind == "untied":
        output = base.model.get_output_embeddings()
        output.weight = torch.nn.Parameter(output.weight.detach().clone() * 1.1)
    method = get_method("hypermap", places=places)
    backbone = build(method, base, small.stream).eval()
    with torch.no_grad():  # as if it had learned
        for up in backbone.added["maps"].maps.up.values():
            up.copy_(0.02 * torch.randn(up.shape, generator=torch.Generator().manual_seed(1)))
    row, batch = row_of(method, backbone), masked(backbone)
    with torch.no_grad():
        wanted = float(backbone(batch, prompt=condition_of(backbone, row.text, batch)).loss)
        plain = float(backbone(batch, prompt=None).loss)
    written(row, tmp_path)
    assert loss_of_transformers(tmp_path, base.objective, batch) == pytest.approx(wanted, rel=1e-5)
    assert wanted != pytest.approx(plain, rel=1e-5)


def test_another_context_gives_another_lm(place, tmp_path):
    stream, base, blocks = place
    method = get_method("hypermap")
    backbone = last_lm(method, stream, base, blocks)
    row = row_of(method, copy.deepcopy(backbone))
    other = RowLM(
        backbone=backbone, method=method, row=2, stage=2, text=row.text.__class__(input_ids=row.text.input_ids[:1, :3])
    )
    first, second = make_plain(row)[0], make_plain(other)[0]
    assert not torch.equal(first.get_input_embeddings().weight, second.get_input_embeddings().weight)


def test_an_lm_whose_export_computes_something_else_is_refused(place, tmp_path):
    _, base, _ = place
    hooked = copy.deepcopy(base)
    probe, wanted = written(RowLM(backbone=hooked, method=Method(), row=0, stage=0), tmp_path / "plain")
    compare_with(load_backbone(str(tmp_path / "plain")), probe, wanted)
    hooked = copy.deepcopy(base)
    hooked.layers[0].register_forward_pre_hook(lambda _module, args: (args[0] * 1.5, *args[1:]))
    probe, wanted = written(RowLM(backbone=hooked, method=Method(), row=0, stage=0), tmp_path / "hooked")
    with pytest.raises(BadConfig, match="in a way that weights do not hold"):
        compare_with(load_backbone(str(tmp_path / "hooked")), probe, wanted)


def test_the_exported_tokenizer_gives_the_same_ids(place, tmp_path):
    _, base, _ = place
    written(RowLM(backbone=copy.deepcopy(base), method=None, row=0, stage=0), tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    vocabulary = base.tokenizer.get_vocab()
    text = " ".join(sorted(vocabulary, key=vocabulary.get)[5:20])
    assert tokenizer(text)["input_ids"] == base.tokenizer(text)["input_ids"]
    assert tokenizer.all_special_ids == base.tokenizer.all_special_ids
