"""Time of a call on the GPU alone, without the host that starts it."""

import statistics
from collections.abc import Callable

import torch

COPIES = 32  # calls in a graph, each on buffers of its own as in a model's layers, so that the cache does not help


def microseconds(call: Callable[[int], object], replays: int = 5, rounds: int = 5) -> float:
    """Median time of ``call(i)``, i < COPIES, captured in a CUDA graph and replayed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what is compiled or allocated once
        call(0)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(COPIES):
            call(i)
    graph.replay()
    taken = []
    for _ in range(rounds):
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        started.record()
        for _ in range(replays):
            graph.replay()
        ended.record()
        ended.synchronize()
        taken.append(started.elapsed_time(ended) * 1000 / (replays * COPIES))
    return statistics.median(taken)
