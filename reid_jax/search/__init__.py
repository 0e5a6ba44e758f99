"""From a model and a folder to ranked lists: embeddings on disk, exact nearest images, pages."""

from reid_jax.search.embedding import (
    StreamEmbedder,
    Unreadable,
    model_digest,
    read_images,
    read_queries,
)
from reid_jax.search.feature_files import embed_to_file
from reid_jax.search.gallery import Gallery, gallery_of_files, open_gallery
from reid_jax.search.graph import NeighbourGraph
from reid_jax.search.nearest import Nearest, Rows, nearest
from reid_jax.search.output import as_csv, as_json, as_page, as_text
from reid_jax.search.reranking import rerank_nearest
from reid_jax.search.searching import Found, Hit, Queries, Results, Searcher, find
from reid_jax.search.store import EmbeddingStore, Stored, Update

__all__ = [
    "EmbeddingStore",
    "Found",
    "Gallery",
    "Hit",
    "Nearest",
    "NeighbourGraph",
    "Queries",
    "Results",
    "Rows",
    "Searcher",
    "Stored",
    "StreamEmbedder",
    "Unreadable",
    "Update",
    "as_csv",
    "as_json",
    "as_page",
    "as_text",
    "embed_to_file",
    "find",
    "gallery_of_files",
    "model_digest",
    "nearest",
    "open_gallery",
    "read_images",
    "read_queries",
    "rerank_nearest",
]
