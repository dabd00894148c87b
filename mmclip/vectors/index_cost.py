"""What an index costs before it is built: bytes, build and query, for a survey's own numbers.

Shapes: N vectors of D float32. Bytes follow from the layout of FAISS's indexes; times from two
rates of this machine that are measured first (a matrix product and a read of memory).
"""

import math
import time
from dataclasses import dataclass

import numpy as np

ID, LINK, FLOAT = 8, 4, 4  # bytes of a row id, of an HNSW link, of a float32
ITERATIONS, SAMPLE = 10, 256  # of FAISS's k-means; training vectors a list
CODES = 256  # entries of an 8-bit codebook


@dataclass(frozen=True)
class Rates:
    """Of one machine: float32 operations a second in a product, bytes a second read."""

    operations: float
    bandwidth: float


def measure(seconds: float = 0.3) -> Rates:
    """The two rates, each the best of the repeats that fit into `seconds`."""
    a = np.ones((1024, 1024), np.float32)
    big = np.ones(16_000_000, np.float32)  # 64 MB: larger than the caches of most processors
    product = _fastest(lambda: a @ a, seconds)
    reading = _fastest(lambda: big.max(), seconds)
    return Rates(2 * 1024**3 / product, big.nbytes / reading)


def _fastest(work, seconds: float) -> float:  # type: ignore[no-untyped-def]
    best, until = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begun)
    return best


def lists(count: int) -> int:
    """Inverted lists for `count` vectors: 4 sqrt(N), a power of two, at most N and 2^20.

    Source:
        FAISS wiki, guidelines to choose an index: 4 sqrt(N) to 16 sqrt(N).
    """
    return int(min(2 ** round(math.log2(max(4 * math.sqrt(count), 1))), 2**20, max(count, 1)))


def code(dimension: int, components: int = 4) -> int:
    """Bytes of a product-quantised vector: about a byte for so many components, at least 8 bytes.

    FAISS asks that it divides the dimension, so it is the nearest such number from above.
    """
    wanted = min(max(8, dimension // components), dimension)
    return next(m for m in range(wanted, dimension + 1) if dimension % m == 0)


def bytes_of(factory: str, count: int, dimension: int) -> int:
    """Size of the index in memory and on disk, without the header of some hundred bytes.

    Args:
        factory: `Flat`, `HNSW<M>,Flat`, `IVF<k>,Flat`, `IVF<k>,PQ<m>` or `IVF<k>,PQ<m>,RFlat`;
            `np` after m changes no byte.
        count, dimension: N and D.
    """
    flat = count * dimension * FLOAT
    if factory == "Flat":
        return flat
    if factory.startswith("HNSW"):
        links = int(factory.removeprefix("HNSW").split(",")[0])
        # 2 M links on the ground level; a share 1 / (M - 1) of the rows has M on a higher one.
        higher = count * links * LINK // (links - 1)
        return flat + count * (2 * links * LINK + 12) + higher
    parts = factory.split(",")
    coarse = int(parts[0].removeprefix("IVF")) * (dimension * FLOAT + ID)
    if parts[1] == "Flat":
        return flat + count * ID + coarse
    code = _code_bytes(factory)
    compressed = count * (code + ID) + coarse + CODES * dimension * FLOAT
    return compressed + (flat if "RFlat" in parts else 0)


def _code_bytes(factory: str) -> int:
    """`m` of the `PQ<m>` or `PQ<m>np` of a factory string; np: no polysemous training."""
    return int(factory.split("PQ")[1].split(",")[0].removesuffix("np"))


def operations_of(factory: str, count: int, dimension: int) -> float:
    """Float32 operations to build it: k-means on a sample, then one assignment of every row."""
    if factory == "Flat":
        return 0.0
    if factory.startswith("HNSW"):
        links = int(factory.removeprefix("HNSW").split(",")[0])
        # About efConstruction = 40 candidates with their links, on each of log2(N) levels met.
        return 2.0 * dimension * count * 40 * links
    k = int(factory.split(",")[0].removeprefix("IVF"))
    training = 2.0 * dimension * k * min(SAMPLE * k, count) * ITERATIONS
    return training + 2.0 * dimension * k * count


def query_bytes(factory: str, count: int, dimension: int, probes: int = 32) -> float:
    """Bytes one query reads: what bounds a single query, not a batch of them."""
    if factory == "Flat":
        return float(count * dimension * FLOAT)
    if factory.startswith("HNSW"):
        links = int(factory.removeprefix("HNSW").split(",")[0])
        return float(64 * 2 * links * (dimension * FLOAT + LINK))
    k = int(factory.split(",")[0].removeprefix("IVF"))
    seen = count * min(probes / k, 1.0)
    row = dimension * FLOAT if factory.split(",")[1] == "Flat" else _code_bytes(factory)
    return k * dimension * FLOAT + seen * (row + ID)


def plan(count: int, dimension: int, rates: Rates, probes: int = 32) -> list[dict[str, object]]:
    """One row an index: its factory string, its bytes, and derived lower bounds of its times.

    Args:
        count, dimension: N and D.
        rates: See `measure`.
        probes: Inverted lists a query visits.
    """
    k = lists(count)
    quantised = code(dimension)
    factories = [
        "Flat",
        "HNSW32,Flat",
        f"IVF{k},Flat",
        f"IVF{k},PQ{quantised}np",
        f"IVF{k},PQ{quantised}np,RFlat",
    ]
    answers: list[dict[str, object]] = []
    for factory in factories:
        size, work = bytes_of(factory, count, dimension), operations_of(factory, count, dimension)
        read = query_bytes(factory, count, dimension, probes)
        answers.append(
            {
                "factory": factory,
                "GB": size / 1e9,
                "bytes a vector": size / count,
                "build, TFLOP": work / 1e12,
                "build, hours at least": work / rates.operations / 3600,
                "a query reads, MB": read / 1e6,
                "one query, ms at least": 1e3 * read / rates.bandwidth,
                "exact": factory == "Flat",
            }
        )
    return answers
