"""Peer d, and the plain query to a Qdrant server beside ours: qdrant-client's hybrid query, dense and
sparse candidates prefetched and fused by reciprocal rank.

The sparse vectors hold BM25's term weights over stemmed words; the inverse document frequency is
Qdrant's own (modifier IDF). Without a URL the client's local mode keeps everything in the memory of
the process. On a server the processes of a peer share a collection.
"""

import collections
import time
import urllib.parse
import zlib

from qdrant_client import QdrantClient, models

from hybrid import DEPTH, words

K1, B = 1.2, 0.75
UPLOAD = 256


class Qdrant:
    """One collection with a dense and a sparse vector for each passage."""

    def __init__(self, encoder, url=None):
        self.encoder = encoder
        self.packages = [*encoder.packages, "qdrant-client"]
        self.on_server = url is not None
        if self.on_server:
            server = urllib.parse.urlsplit(url)
            # gRPC throughout, like ours; asking for the server's version would need its other port.
            self.client = QdrantClient(host=server.hostname, grpc_port=server.port, prefer_grpc=True, check_compatibility=False)
        else:
            self.client = QdrantClient(":memory:")

    def index(self, passages, texts, vectors):
        name = f"bench-plain-{zlib.crc32(chr(0).join(texts).encode()):08x}"
        if self.client.collection_exists(name):
            if self.client.count(name).count == len(texts):
                return name
            self.client.delete_collection(name)
        self.client.create_collection(
            name,
            vectors_config={"dense": models.VectorParams(size=len(vectors[0]), distance=models.Distance.COSINE)},
            sparse_vectors_config={"sparse": models.SparseVectorParams(modifier=models.Modifier.IDF)})
        counts = [collections.Counter(words(text)) for text in texts]
        mean = sum(count.total() for count in counts) / len(counts)
        points = (
            models.PointStruct(id=number, payload=passage, vector={
                "dense": vector.tolist(),
                "sparse": sparse({word: n * (K1 + 1) / (n + K1 * (1 - B + B * count.total() / mean)) for word, n in count.items()}),
            })
            for number, (passage, count, vector) in enumerate(zip(passages, counts, vectors)))
        self.client.upload_points(name, points, batch_size=UPLOAD, wait=True)
        while self.on_server and self.client.get_collection(name).status != models.CollectionStatus.GREEN:
            time.sleep(0.1)  # It still optimises.
        return name

    def search(self, name, query, top_k, clock):
        with clock:
            vector = self.encoder.query(query)
        found = self.client.query_points(
            name,
            prefetch=[
                models.Prefetch(query=vector.tolist(), using="dense", limit=DEPTH),
                models.Prefetch(query=sparse(dict.fromkeys(words(query), 1.0)), using="sparse", limit=DEPTH),
            ],
            query=models.FusionQuery(fusion=models.Fusion.RRF), limit=top_k, with_payload=True)
        return [(point.payload["id"], point.score, point.payload["text"]) for point in found.points]

    def discard(self, name):
        self.client.delete_collection(name)


def sparse(weights):
    """A sparse vector of words; two words with the same hash, one in millions, share an index."""
    by_index = {zlib.crc32(word.encode()): weight for word, weight in weights.items()}
    return models.SparseVector(indices=list(by_index), values=list(by_index.values()))
