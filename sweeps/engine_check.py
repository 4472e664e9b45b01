"""Forty runs of about a second of pure computation, to exercise, kill and time the engine without any simulation.

    scaling sweep work engine_check --workers 2 --store runs/engine
    scaling sweep table engine_check --store runs/engine

Expected: 40 rows in about 20 s on two cores; each hash chain ends in the same digest however often it was killed.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.record.files import write_json
from scaling.study.sweep import Run, Sweep, grid, simple_jobs

VERSION = 1
CHUNKS = 10


@dataclass(frozen=True)
class Chain:
    """A chain of `rounds` SHA-256 digests from `seed`, with a checkpoint half-way."""

    seed: int = 0
    rounds: int = 1_500_000

    def __post_init__(self) -> None:
        if self.rounds < CHUNKS or self.rounds % CHUNKS:
            raise ValueError(f"rounds {self.rounds}: a multiple of {CHUNKS}")


def follow(config: Chain, work: Path) -> dict[str, Any]:
    """The row: the digest at the end, and how many rounds were computed for it, those lost to a kill included."""
    checkpoint, trace = work / "checkpoint.json", work / "chunks.txt"
    done, digest = 0, hashlib.sha256(str(config.seed).encode()).digest()
    if checkpoint.exists():
        state = json.loads(checkpoint.read_text())
        done, digest = state["done"], bytes.fromhex(state["digest"])
    began = time.perf_counter()
    for chunk in range(done, CHUNKS):
        for _ in range(config.rounds // CHUNKS):
            digest = hashlib.sha256(digest).digest()
        with trace.open("a") as file:
            file.write(f"{chunk}\n")
        if chunk + 1 == CHUNKS // 2:
            write_json(checkpoint, {"done": chunk + 1, "digest": digest.hex()})
    computed = len(trace.read_text().split())
    return {
        "seed": config.seed,
        "rounds": config.rounds,
        "digest": digest.hex(),
        "rounds_computed": computed * config.rounds // CHUNKS,
        "resumed": done > 0,
        "last_attempt_s": time.perf_counter() - began,
    }


def sweep() -> Sweep:
    """Forty seeds."""
    runs = grid(Run(Chain()), {"seed": range(40)})
    return Sweep("engine_check", runs, simple_jobs("engine_check", VERSION, follow, seconds=1.0))


VERSIONS = {"": sweep}
