"""Peers a and b: the hybrid retriever that somebody writes who wants it fast in Python. bm25s in its
numba backend and a matrix-vector product in numpy, fused by reciprocal rank.

Also the lexical side of the others: the words of a text, stemmed and without stop words.
"""

import re

import bm25s
import numpy
import Stemmer

DEPTH = 100  # Candidates of each side before fusion.
RRF = 60
WORD = re.compile(r"\b\w\w+\b")
STOPWORDS = set(bm25s.tokenization.STOPWORDS_EN)
STEMMER = Stemmer.Stemmer("english")


def words(text):
    """What bm25s.tokenize makes of a text, without what it costs for a single query (67 µs, not 5)."""
    return STEMMER.stemWords([word for word in WORD.findall(text.lower()) if word not in STOPWORDS])


class Hybrid:
    """bm25s and numpy behind an encoder."""

    def __init__(self, encoder):
        self.encoder = encoder
        self.packages = [*encoder.packages, "bm25s", "numba", "numpy"]

    def index(self, passages, texts, vectors):
        lexical = bm25s.BM25(backend="numba")
        lexical.index([words(text) for text in texts], show_progress=False)
        return passages, lexical, numpy.ascontiguousarray(vectors, numpy.float32)

    def discard(self, index):
        """There is nothing outside this process."""

    def search(self, index, query, top_k, clock):
        passages, lexical, vectors = index
        with clock:
            vector = self.encoder.query(query)
        depth = min(DEPTH, len(passages))
        scores = vectors @ vector
        dense = numpy.argpartition(scores, -depth)[-depth:]
        ranked = [dense[numpy.argsort(-scores[dense])]]
        if tokens := words(query):
            numbers, scores = lexical.retrieve([tokens], k=depth, show_progress=False)
            ranked.append(numbers[0][scores[0] > 0])
        fused = {}
        for ranking in ranked:
            for rank, number in enumerate(ranking.tolist()):
                fused[number] = fused.get(number, 0.0) + 1.0 / (RRF + 1 + rank)
        best = sorted(fused, key=fused.get, reverse=True)[:top_k]
        return [(passages[number]["id"], fused[number], passages[number]["text"]) for number in best]
