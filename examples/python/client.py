#!/usr/bin/env python3
"""A gRPC client in Python: puts three documents into a collection of its own and attends over them.

    pip install grpcio grpcio-tools
    moerag up                                            # in another terminal
    python3 examples/python/client.py 127.0.0.1:50051

The stubs are generated from proto/ into a temporary directory.
"""

import pathlib
import sys
import tempfile

import grpc
from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
COLLECTION = "example-python"
DOCUMENTS = {
    "tides": "The moon's gravity pulls the oceans into two bulges. As the earth turns below them, most coasts see two "
    "high tides a day.",
    "rust": "Rust finds data races when a program is compiled. A value has one owner, and a borrow cannot outlive it.",
    "tea": "Green tea turns bitter in boiling water. Let the kettle cool to eighty degrees and steep it for two minutes.",
}


def stubs(directory):
    """Generates and imports the modules of moerag.v1."""
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("moerag/v1/*.proto"))
    arguments = [f"-I{PROTO}", f"--python_out={directory}", f"--grpc_python_out={directory}", *files]
    # protoc's own messages (google/protobuf/*.proto) lie beside grpc_tools.
    include = pathlib.Path(protoc.__file__).parent / "_proto"
    if protoc.main(["protoc", f"-I{include}", *arguments]) != 0:
        sys.exit("protoc failed")
    sys.path.insert(0, directory)
    from moerag.v1 import common_pb2, corpus_pb2, corpus_pb2_grpc, router_pb2, router_pb2_grpc

    return common_pb2, corpus_pb2, corpus_pb2_grpc, router_pb2, router_pb2_grpc


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
    address = address.removeprefix("http://")
    with tempfile.TemporaryDirectory() as directory, grpc.insecure_channel(address) as channel:
        common, corpus, corpus_grpc, router, router_grpc = stubs(directory)
        documents = corpus_grpc.CorpusServiceStub(channel)

        def requests():
            yield corpus.IngestRequest(start=corpus.IngestStart(collection=COLLECTION))
            for name, text in DOCUMENTS.items():
                yield corpus.IngestRequest(document=corpus.Document(id=name, title=name, text=text))

        for reply in documents.Ingest(requests(), timeout=120):
            for outcome in reply.outcomes:
                if outcome.status == corpus.DOCUMENT_STATUS_REFUSED:
                    sys.exit(f"{outcome.document_id} was refused: {outcome.reason}")
                print(f"durable: {outcome.document_id} ({outcome.passages} passages)")

        query = "Why does the sea rise and fall twice a day?"
        request = router.AttendRequest(query=query, collections=[COLLECTION], top_k=2)
        reply = router_grpc.RouterServiceStub(channel).Attend(request, timeout=30)
        source = common.ModelSource.Name(reply.model.source)
        print(f"\n{query}\nanswered by version {reply.model.version} ({source})")
        for head in reply.heads:
            print(f"  head {head.head:<9} {head.weight:.3f}")
        for passage in reply.passages:
            print(f"  {passage.attn_weight:.4f}  {passage.document_id}: {passage.text}")

        # The example leaves the store as it found it, except for an empty collection.
        gone = documents.DeleteDocuments(
            corpus.DeleteDocumentsRequest(collection=COLLECTION, document_ids=list(DOCUMENTS)), timeout=30
        )
        print(f"deleted {gone.deleted} documents")
        if [passage.document_id for passage in reply.passages][:1] != ["tides"]:
            sys.exit("expected the passage about tides first")


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as error:
        sys.exit(f"the router refused or did not answer: {error.code().name}: {error.details()}")
