"""Every op's result, forwards and back, over and over: by threads, processes and in poisoned memory."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from ikem_fast.selftest import CASES


def made(name, seed=0):
    """An op's fused implementation with its inputs, ready to run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        run = CASES[name](torch.device("cpu"))
    return lambda: run("fused")


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def over_runs(name, runs) -> Iterator[bool]:
    """So many runs, half of them with the other number of threads."""
    run = made(name)
    wanted, threads = run(), torch.get_num_threads()
    try:
        for number in range(runs):
            torch.set_num_threads(1 + number % 2)
            yield same(run(), wanted)
    finally:
        torch.set_num_threads(threads)


def in_threads(name, count=4) -> bool:
    """At the same time in several threads, each with inputs of its own."""
    runs = [made(name, seed) for seed in range(count)]
    wanted = [run() for run in runs]
    with ThreadPoolExecutor(count) as pool:
        return all(map(same, pool.map(lambda run: run(), runs), wanted))


def poisoned(name) -> bool:
    """Where memory that is asked for holds NaN, and under torch's deterministic algorithms."""
    run = made(name)
    wanted = run()
    torch.use_deterministic_algorithms(True)  # `torch.empty` then gives NaN
    try:
        assert torch.utils.deterministic.fill_uninitialized_memory and torch.empty(3).isnan().all()
        return same(run(), wanted)
    finally:
        torch.use_deterministic_algorithms(False)


def _send(name, sender):
    torch.set_num_threads(1)
    sender.send([tensor.numpy() for tensor in made(name)()])


def in_process(name, method) -> bool:
    """In another process, started by fork behind a run in this one, or by spawn."""
    wanted = made(name)()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context(method).Process(target=_send, args=(name, sender))
    process.start()
    try:
        answered = receiver.poll(120)
        return answered and same(
            map(torch.from_numpy, receiver.recv()), [tensor.detach() for tensor in wanted]
        )
    finally:
        process.kill()
        process.join()
