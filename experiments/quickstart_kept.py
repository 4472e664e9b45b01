"""Does the loss of tiny students fall with frames when their experts really track?

    scaling quickstart --bank experiments/banks/generated --out runs/kept
    python experiments/quickstart_kept.py      # the same, and keeps the result below experiments/

The kept bank's four experts follow generated motion for 9 s and more of 10 at assist 0; 40 students learn from them.
Expected: about six minutes on two idle cores. The table, the curves and the sentence that the data supports are in
`quickstart_kept/RESULT.md`.
"""

from dataclasses import replace
from pathlib import Path

from scaling.study.config import quickstart
from scaling.study.keep import keep_results
from scaling.study.quickstart import run_quickstart

BANK = "experiments/banks/generated"
OUT = Path("runs/kept")

if __name__ == "__main__":
    run_quickstart(out=OUT, bank=BANK)
    config = replace(quickstart(bank=BANK), name="quickstart with kept experts")
    print(keep_results(config, OUT, Path(__file__).with_suffix(""), f"scaling quickstart --bank {BANK} --out {OUT}"))
