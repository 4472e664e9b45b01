"""What does the newcomer's study show on the motion that the project generates itself?

    make quickstart                                # scaling quickstart --out runs/quickstart
    python experiments/quickstart_generated.py     # the same, and keeps the result below experiments/

Expected: about fifteen minutes on two idle cores. The table, the curves and the sentence that the data supports are in
`quickstart_generated/RESULT.md`.
"""

from dataclasses import replace
from pathlib import Path

from scaling.study.config import quickstart
from scaling.study.keep import keep_results
from scaling.study.quickstart import run_quickstart

OUT = Path("runs/quickstart")

if __name__ == "__main__":
    run_quickstart(None, OUT)
    config = replace(quickstart(), name="quickstart on generated motion")
    print(keep_results(config, OUT, Path(__file__).with_suffix(""), f"scaling quickstart --out {OUT}"))
