"""Which physics settings are worth training on, and do the presets `standard` and `full` keep what they promise?

    python experiments/physics_presets.py            # fidelity: about 6 minutes on two cores, whatever their load
    python experiments/physics_presets.py --speed    # the speed columns: about 8 minutes on two idle cores

400 states each of standing, stepping and falling robots (noisy, pushed playback of generated clips, self-collision
on), and the .2 s of servo targets that follow. Every setting plays the same targets from the same states, beside C
MuJoCo at .5 ms and 50 iterations, and beside C MuJoCo at the setting's own time step with 50 iterations.

Expected: .005 s with (4, 8) is the coarsest setting with R2 above .95 in every group; (10, 20) is converged to 1e-3.
Result: `physics_presets/RESULT.md`; the figures behind it are the JSON files beside it.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.bench.row import machine
from scaling.motion.synthetic import generate
from scaling.robot.g1 import GROUPS
from scaling.robot.model import CONVERGED, FULL, STANDARD, PhysicsOptions, build_model
from scaling.tracking.fidelity import Setting, compare, converged, fine, play, speed
from scaling.tracking.physics import widen_pool
from scaling.tracking.probe import KINDS, HostState, Probe, make_probe

OUT = Path(__file__).with_suffix("")
COMMAND = "python experiments/physics_presets.py"
CLIPS = {"standing": ("squat", "arm_wave", "weight_shift", "reach"), "stepping": ("step_in_place", "turn")}
GOOD = 0.95
TIMED = 128  # states in the batch that is timed

TABLE = [
    Setting("mujoco", integrator, timestep, *solver)
    for integrator in ("euler", "implicitfast")
    for timestep in (0.01, 0.005, 0.004, 0.002)
    for solver in ((1, 4), (2, 5), (4, 8), (10, 20))
]
ON_MJX = [
    Setting.of(STANDARD, "mjx"),
    Setting.of(replace(STANDARD, iterations=10, ls_iterations=20), "mjx"),
    Setting.of(FULL, "mjx"),
]
SETTINGS = [*TABLE, Setting.of(FULL), *ON_MJX]
PRESETS = {"standard": STANDARD, "full": FULL}


def named(setting: Setting) -> str:
    """The setting as a table's first cell; a preset's rows carry its name."""
    backend = "MJX" if setting.backend == "mjx" else "C"
    text = f"{backend} {setting.integrator} {setting.timestep:g} ({setting.iterations}, {setting.ls_iterations})"
    text += ", self-collision" if setting.contacts == "full" else ""
    preset = [name for name, options in PRESETS.items() if Setting.of(options, setting.backend) == setting]
    return f"**{preset[0]}**: {text}" if preset else text


def probe_of(count: int) -> Probe:
    """`count` states of each kind, the same every time."""
    clips = {kind: [generate(family, 8.0, seed) for family in CLIPS[kind] for seed in range(4)] for kind in CLIPS}
    return make_probe(clips, build_model(replace(CONVERGED, contacts="full")), count, threads=os.cpu_count() or 1)


def measure_fidelity(probe: Probe) -> Iterator[dict[str, Any]]:
    """A row per setting: beside the fine reference, and beside its own converged self."""
    threads = os.cpu_count() or 1
    played: dict[Setting, HostState] = {}

    def reference(setting: Setting) -> HostState:
        if setting not in played:
            played[setting] = play(setting, probe, threads)
        return played[setting]

    for setting in SETTINGS:
        mine = play(setting, probe, threads)
        row = {"setting": asdict(setting)}
        row["fine"] = asdict(compare(mine, reference(fine(setting.contacts)), probe))
        row["converged"] = asdict(compare(mine, reference(converged(setting)), probe))
        print(named(setting), flush=True)
        yield row


def measure_speed(probe: Probe) -> Iterator[dict[str, Any]]:
    """A row per setting: control steps a second of one thread and of all; MJX has no say in its threads."""
    rows = np.random.default_rng(0).permutation(len(probe.kind))[:TIMED]
    probe = Probe(HostState(*(x[rows] for x in probe.start)), probe.ctrl[rows], probe.kind[rows])
    for setting in SETTINGS:
        alone = None if setting.backend == "mjx" else speed(setting, probe, 1)
        row = {"setting": asdict(setting), "one": alone, "all": speed(setting, probe, os.cpu_count() or 1)}
        print(named(setting), flush=True)
        yield row


def table(rows: Sequence[dict[str, Any]], speeds: dict[Setting, dict[str, Any]]) -> list[str]:
    """Markdown: one line a setting."""
    head = ["setting", *GROUPS, "joint positions", "qpos off", "qvel off", "off converged", "within 1e-3", "one", "all"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        setting, near, own = Setting(**row["setting"]), row["fine"], row["converged"]
        cells = [named(setting) + (f" ({near['diverged']:.1%} diverged)" if near["diverged"] else "")]
        cells += ["-" if value is None else f"{value:.3f}" for value in near["r2"].values()]
        cells += ["{:.2g} / {:.2g}".format(*values) for values in (near["qpos_drift"], near["qvel_drift"])]
        cells += ["{:.1g} / {:.1g}".format(*own["qpos_drift"])]
        cells += [" / ".join(f"{own['close'][kind]:.0%}" for kind in KINDS if kind in own["close"])]
        timed = speeds.get(setting, {})
        cells += ["-" if timed.get(which) is None else f"{timed[which] / 1000:.2f} k" for which in ("one", "all")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def verdict(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the figures say of the presets, in sentences that are made of them."""
    of = {Setting(**row["setting"]): row for row in rows}
    least = {setting: min(row["fine"]["r2"].values()) for setting, row in of.items()}
    mine, full = (Setting.of(options) for options in PRESETS.values())
    good = [setting for setting in TABLE if least[setting] >= GOOD]
    coarsest = max(setting.timestep for setting in good)
    fewest = min(setting.iterations for setting in good if setting.timestep == coarsest)
    cheapest = [named(setting) for setting in good if (setting.timestep, setting.iterations) == (coarsest, fewest)]
    longer, fewer = replace(mine, timestep=0.01), replace(mine, iterations=2, ls_iterations=5)
    on_mjx = [
        f"{min(of[setting]['converged']['r2'].values()):.4f} and {_shares(of[setting])} ({named(setting)})"
        for setting in ON_MJX
    ]
    return [
        f"`standard` ({_said(STANDARD)}) explains at least {least[mine]:.3f} of what one control step changes in every "
        f"group, and is {_drift(of[mine]['fine'])} off the fine reference after .2 s (largest coordinate, m or rad, "
        f"median / 95 % of the states). Of the settings without self-collision that explain at least {GOOD} "
        f"everywhere, the coarsest time step is {coarsest:g} s, and the fewest iterations at it are {fewest}: "
        f"{', '.join(cheapest)}. At twice its time step the least share is {least[longer]:.3f} and the drift "
        f"{_drift(of[longer]['fine'])}; with half its iterations ({fewer.iterations}, {fewer.ls_iterations}) they are "
        f"{least[fewer]:.3f} and {_drift(of[fewer]['fine'])}.",
        "",
        f"`full` ({_said(FULL)}, self-collision) stands beside references with self-collision. After .2 s it is within "
        f"1e-3 of its own converged solution for {_shares(of[full])} of the standing / stepping / falling states; "
        f"`standard` is for {_shares(of[mine])}. Against the fine reference it explains at least {least[full]:.3f} and "
        f"drifts by {_drift(of[full]['fine'])}: what is left is the error of the time step, which both share.",
        "",
        "MJX beside C MuJoCo converged at the same time step, the least share explained and the states within 1e-3: "
        + "; ".join(on_mjx)
        + ".",
    ]


def _said(options: PhysicsOptions) -> str:
    return (
        f"{options.integrator}, {options.timestep:g} s x {options.substeps}, "
        f"({options.iterations}, {options.ls_iterations})"
    )


def _drift(fidelity: dict[str, Any]) -> str:
    return "{:.2g} / {:.2g}".format(*fidelity["qpos_drift"])


def _shares(row: dict[str, Any]) -> str:
    return " / ".join(f"{share:.0%}" for share in row["converged"]["close"].values())


def write(folder: Path) -> Path:
    """RESULT.md from whatever of the two passes is there."""
    found = json.loads((folder / "fidelity.json").read_text())
    timed = json.loads((folder / "speed.json").read_text()) if (folder / "speed.json").exists() else None
    speeds = {Setting(**row["setting"]): row for row in timed["rows"]} if timed else {}
    lines = ["# Physics presets", "", f"`{COMMAND}` and `{COMMAND} --speed`", "", *verdict(found["rows"]), ""]
    lines += [
        f"{found['rows'][0]['fine']['states']} states. R2 of the velocity change over one 20 ms control step by group, "
        "and of the joint positions' change, against the fine reference (.5 ms, 50 iterations). `qpos off`, `qvel "
        "off`: the largest coordinate after .2 s against the same, median / 95 % of the states. `off converged`: the "
        "same in qpos against C MuJoCo at the row's own time step with 50 iterations, and `within 1e-3` the share of "
        "standing / stepping / falling states where it is at most 1e-3. `one`, `all`: control steps a second, one "
        f"thread and all of them, batch {TIMED}"
        + (f", on {timed['machine']}." if timed else "; not measured yet: `--speed` on an idle machine."),
        "",
        *table(found["rows"], speeds),
    ]
    path = folder / "RESULT.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def main() -> None:
    """One pass, and the result written anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", action="store_true", help="the speed columns instead of fidelity")
    parser.add_argument("--count", type=int, default=400, help="states of each kind")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    probe = probe_of(given.count)
    name, rows = ("speed", measure_speed(probe)) if given.speed else ("fidelity", measure_fidelity(probe))
    found = {"machine": machine(), "rows": list(rows)}
    (given.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(write(given.out).read_text())


if __name__ == "__main__":
    widen_pool()
    main()
