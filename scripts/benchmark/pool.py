"""Worker processes of a peer, so that Python answers many clients at once: one for each core, one
computing thread in each, requests served in turn by whichever worker is free.

A service in Python would do the same (gunicorn, Triton, …), with a network in between that is left
out here in favour of the peers.
"""

import concurrent.futures
import multiprocessing
import os
import queue
import time


class Pool:
    """Workers that have opened the same corpus."""

    def __init__(self, serve, *arguments):
        # Not forked: libraries with threads of their own do not survive that.
        context = multiprocessing.get_context("spawn")
        self.processes, self.connections, self.free = [], [], queue.SimpleQueue()
        for _ in range(os.cpu_count()):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.connections.append(ours)
        for connection in self.connections:
            connection.recv()  # It is ready.
            self.free.put(connection)
        # As many threads as workers: the executor's queue is what requests wait in, first come first served.
        self.front = concurrent.futures.ThreadPoolExecutor(len(self.processes))

    def pids(self):
        return [process.pid for process in self.processes]

    def ask(self, query, top_k):
        worker = self.free.get()
        worker.send((query, top_k))
        answer = worker.recv()
        self.free.put(worker)
        return answer

    def throughput(self, queries, clients, top_k):
        """Wall time of all queries, asked by `clients` threads that each wait for their reply."""
        def client(mine):
            ms = []
            for query in mine:
                started = time.perf_counter()
                self.front.submit(self.ask, query, top_k).result()
                ms.append((time.perf_counter() - started) * 1e3)
            return ms

        shared = iter(list(queries))  # A list's iterator may be shared by threads.
        with concurrent.futures.ThreadPoolExecutor(clients) as threads:
            started = time.perf_counter()
            asked = [threads.submit(client, shared) for _ in range(clients)]
            ms = [one for future in asked for one in future.result()]
        return {"seconds": time.perf_counter() - started, "queries": len(ms), "ms": ms}

    def close(self):
        self.front.shutdown()
        for connection in self.connections:
            connection.close()
        for process in self.processes:
            process.join()
