"""Ranking, named protocols, re-ranking and verification metrics."""

from reid_jax.evaluation.bootstrap import bootstrap_intervals
from reid_jax.evaluation.calibration import Calibration, ReliabilityBin, calibrate
from reid_jax.evaluation.camera_pairs import CameraPairMatrix, camera_pair_matrix
from reid_jax.evaluation.decision import Decision, Verdict
from reid_jax.evaluation.expansion import expanded_queries, mean_with_nearest
from reid_jax.evaluation.features import extract_features
from reid_jax.evaluation.histogram import (
    PairDistanceHistogram,
    comparison_histogram,
    pair_distance_histogram,
)
from reid_jax.evaluation.landmarks import oxford5k, rank_landmarks
from reid_jax.evaluation.lists import RankedLists, comparison_lists, top_k
from reid_jax.evaluation.metrics import METRIC_HEADINGS, RankingResult
from reid_jax.evaluation.operating import (
    EqualError,
    OperatingPoint,
    OperatingPoints,
    PersonPairs,
    RocPoints,
    operating_points,
)
from reid_jax.evaluation.pair_scoring import (
    ImageCache,
    PairScorer,
    cache_images,
    similarity_score,
    variables_fingerprint,
)
from reid_jax.evaluation.protocols import (
    Comparison,
    Images,
    NamedRanking,
    fingerprint,
    metrics,
    multi_query,
    pool_queries,
    single_query,
    single_query_of_distances,
    single_query_with_distractors,
)
from reid_jax.evaluation.ranking import rank, rank_columns, rank_features, rank_with_distractors
from reid_jax.evaluation.reranking import k_reciprocal_rerank
from reid_jax.evaluation.single_shot import (
    DistanceOf,
    draw_one_direction,
    draw_per_query,
    feature_distances,
    multi_shot,
    single_shot_one_direction,
    single_shot_per_query,
)
from reid_jax.evaluation.variable_sizes import extract_features_by_size
from reid_jax.evaluation.verification import (
    Roc,
    best_threshold,
    equal_error,
    equal_error_rate,
    roc,
    roc_from_histogram,
    threshold_at,
    true_accept_rate_at,
    verification_metrics,
)

__all__ = [
    "METRIC_HEADINGS",
    "Calibration",
    "CameraPairMatrix",
    "Comparison",
    "Decision",
    "DistanceOf",
    "EqualError",
    "ImageCache",
    "Images",
    "NamedRanking",
    "OperatingPoint",
    "OperatingPoints",
    "PairDistanceHistogram",
    "PairScorer",
    "PersonPairs",
    "RankedLists",
    "RankingResult",
    "ReliabilityBin",
    "Roc",
    "RocPoints",
    "Verdict",
    "best_threshold",
    "bootstrap_intervals",
    "cache_images",
    "calibrate",
    "camera_pair_matrix",
    "comparison_histogram",
    "comparison_lists",
    "draw_one_direction",
    "draw_per_query",
    "equal_error",
    "equal_error_rate",
    "expanded_queries",
    "extract_features",
    "extract_features_by_size",
    "feature_distances",
    "fingerprint",
    "k_reciprocal_rerank",
    "mean_with_nearest",
    "metrics",
    "multi_query",
    "multi_shot",
    "operating_points",
    "oxford5k",
    "pair_distance_histogram",
    "pool_queries",
    "rank",
    "rank_columns",
    "rank_features",
    "rank_landmarks",
    "rank_with_distractors",
    "roc",
    "roc_from_histogram",
    "similarity_score",
    "single_query",
    "single_query_of_distances",
    "single_query_with_distractors",
    "single_shot_one_direction",
    "single_shot_per_query",
    "threshold_at",
    "top_k",
    "true_accept_rate_at",
    "variables_fingerprint",
    "verification_metrics",
]
