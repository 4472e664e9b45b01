"""Does the loss of tiny students fall with the frames of real motion, and do their experts track it at all?

Clips: g1_moves (41 clips of a Unitree G1, 20 minutes, CC BY 4.0), which stay outside this repository.

    scaling quickstart --motions ../shared/motions/g1_29dof/g1_moves --out runs/g1_moves
    python experiments/quickstart_g1_moves.py      # the same, and keeps the result below experiments/

Expected: about ten minutes on two idle cores. The table, the curves and the sentence that the data supports are in
`quickstart_g1_moves/RESULT.md`.
"""

from dataclasses import replace
from pathlib import Path

from scaling.study.config import quickstart
from scaling.study.keep import keep_results
from scaling.study.quickstart import run_quickstart

MOTIONS = "../shared/motions/g1_29dof/g1_moves"
OUT = Path("runs/g1_moves")

if __name__ == "__main__":
    run_quickstart(MOTIONS, OUT)
    config = replace(quickstart(MOTIONS), name="quickstart on g1_moves")
    command = f"scaling quickstart --motions {MOTIONS} --out {OUT}"
    print(keep_results(config, OUT, Path(__file__).with_suffix(""), command))
