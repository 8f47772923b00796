"""What the scripts beside this one share: what must be there, and times of calls on a GPU."""

import argparse
import importlib.metadata
import statistics
import sys


def give_up(why):
    sys.exit(f"{sys.argv[0]}: {why}")


def reason(error):
    """An exception in the cell of a table."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:80]}"


def torch_with_gpu():
    """PyTorch, where it is there and has a GPU; else ends the program, saying what is missing."""
    try:
        import torch
    except ImportError as error:
        give_up(f"PyTorch is missing (pip install -r requirements.txt): {error}")
    if not torch.cuda.is_available():
        give_up("PyTorch sees no GPU")
    return torch


def version_of(package):
    """As (major, minor, patch), or None where the package is not installed."""
    try:
        text = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in text.split(".")[:3])


def options(description, **usual):
    """--name=value for every name, whole numbers."""
    parser = argparse.ArgumentParser(description=description)
    for name, value in usual.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    return parser.parse_args()


def seconds_a_call(torch, call, rounds, milliseconds=30):
    """The median over rounds of as many calls as fill one, behind three to warm up."""

    def seconds_of(count):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    seconds_of(3)
    once = max(seconds_of(1), 1e-6)
    count = int(min(max(milliseconds / 1e3 / once, 1), 1000))
    return statistics.median(seconds_of(count) / count for _ in range(rounds))


def captured(torch, call):
    """The same work as a CUDA graph: a call that replays it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what happens once only must have happened
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def header(torch, what):
    name = torch.cuda.get_device_name(0)
    print(f"### Peers, {what}: {name}; PyTorch {torch.__version__}, CUDA {torch.version.cuda}\n")
