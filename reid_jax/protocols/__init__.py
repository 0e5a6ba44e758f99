"""Ways to evaluate an embedder: `PROTOCOLS[name].evaluate(embedder, subsets) -> Evaluation`."""

from reid_jax.protocols.base import Evaluation, Protocol, Subsets
from reid_jax.protocols.features import Embeds, EmbedsOnce, GivenFeatures
from reid_jax.protocols.landmark import Landmarks
from reid_jax.protocols.market import (
    DISTRACTOR_SHARES,
    Distractors,
    MultiQuery,
    SingleQuery,
    Swapped,
)
from reid_jax.protocols.pool import MultiShot, OneDirection, PerQuery
from reid_jax.protocols.refinement import Refinement

__all__ = [
    "DISTRACTOR_SHARES",
    "PROTOCOLS",
    "Distractors",
    "Embeds",
    "EmbedsOnce",
    "Evaluation",
    "GivenFeatures",
    "Landmarks",
    "MultiQuery",
    "MultiShot",
    "OneDirection",
    "PerQuery",
    "Protocol",
    "Refinement",
    "SingleQuery",
    "Subsets",
    "Swapped",
]

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        SingleQuery("single-query"),
        Swapped("single-query-swapped"),
        MultiQuery("multi-query-average", pooling="average"),
        MultiQuery("multi-query-maximum", pooling="maximum"),
        OneDirection("single-shot-one-direction"),
        PerQuery("single-shot-per-query"),
        MultiShot("multi-shot"),
        Distractors("distractors"),
        Landmarks("oxford5k"),
    )
}
"""All protocols by name.

`dataclasses.replace(protocol, num_repeats=10)` draws more often, and `refinement=Refinement(...)`
expands queries or re-ranks.
"""
