"""Ranking, named protocols, re-ranking and verification metrics."""

from reid_jax.evaluation.features import extract_features
from reid_jax.evaluation.protocols import (
    Evaluation,
    Images,
    fingerprint,
    metrics,
    multi_query,
    pool_queries,
    single_query,
    single_shot_one_direction,
    single_shot_per_query,
)
from reid_jax.evaluation.ranking import (
    PairDistanceHistogram,
    RankedLists,
    RankingResult,
    pair_distance_histogram,
    rank,
    rank_features,
    single_gallery_shot_cmc,
    top_k,
)
from reid_jax.evaluation.reranking import k_reciprocal_rerank
from reid_jax.evaluation.verification import (
    Roc,
    best_threshold,
    equal_error_rate,
    roc,
    roc_from_histogram,
    true_accept_rate_at,
    verification_metrics,
)

__all__ = [
    "Evaluation",
    "Images",
    "PairDistanceHistogram",
    "RankedLists",
    "RankingResult",
    "Roc",
    "best_threshold",
    "equal_error_rate",
    "extract_features",
    "fingerprint",
    "k_reciprocal_rerank",
    "metrics",
    "multi_query",
    "pair_distance_histogram",
    "pool_queries",
    "rank",
    "rank_features",
    "roc",
    "roc_from_histogram",
    "single_gallery_shot_cmc",
    "single_query",
    "single_shot_one_direction",
    "single_shot_per_query",
    "top_k",
    "true_accept_rate_at",
    "verification_metrics",
]
