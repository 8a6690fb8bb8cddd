"""Peer c: LangChain's stock hybrid retriever, put together as its documentation does:
EnsembleRetriever of BM25Retriever and a FAISS store, over HuggingFaceEmbeddings.

Each retriever fetches as many passages as are asked for, LangChain's way, which is less work than
the hundred candidates that the other systems fuse.
"""

from langchain_classic.retrievers import EnsembleRetriever
from langchain_community.retrievers import BM25Retriever
from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_huggingface import HuggingFaceEmbeddings


class Clocked(Embeddings):
    """Embeddings that time themselves: a retriever calls them by itself."""

    def __init__(self, embeddings):
        self.embeddings = embeddings
        self.clock = None

    def embed_documents(self, texts):
        return self.embeddings.embed_documents(texts)

    def embed_query(self, text):
        with self.clock:
            return self.embeddings.embed_query(text)


class LangChain:
    """The retriever and its embeddings."""

    packages = ["langchain-classic", "langchain-community", "langchain-huggingface", "sentence-transformers", "torch",
                "faiss-cpu", "rank-bm25"]

    def __init__(self, encoder_dir, threads):
        import torch

        torch.set_num_threads(threads)
        self.embeddings = Clocked(HuggingFaceEmbeddings(
            model_name=str(encoder_dir), model_kwargs={"device": "cpu"}, encode_kwargs={"normalize_embeddings": True}))
        self.encoder = self  # The embeddings are asked through LangChain, like the rest.

    def query(self, text):
        return self.embeddings.embeddings.embed_query(text)

    def passages(self, texts):
        return self.embeddings.embed_documents(texts)

    def index(self, passages, texts, vectors):
        metadata = [{"id": passage["id"]} for passage in passages]
        documents = [Document(page_content=text, metadata=entry) for text, entry in zip(texts, metadata)]
        lexical = BM25Retriever.from_documents(documents)
        store = FAISS.from_embeddings(list(zip(texts, vectors)), self.embeddings, metadatas=metadata)
        return lexical, store

    def discard(self, index):
        """There is nothing outside this process."""

    def search(self, index, query, top_k, clock):
        lexical, store = index
        lexical.k = top_k
        self.embeddings.clock = clock
        dense = store.as_retriever(search_kwargs={"k": top_k})
        found = EnsembleRetriever(retrievers=[lexical, dense], weights=[0.5, 0.5]).invoke(query)[:top_k]
        return [(document.metadata["id"], 0.0, document.page_content) for document in found]
