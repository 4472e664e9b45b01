"""What people take away: the exported policy, its rendering on a clip, and the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from scaling.distill.student import CIRCUMSTANCES, Student, policy, policy_params
from scaling.dynamics.artifact import FOLDER as SIMULATOR
from scaling.dynamics.artifact import load
from scaling.errors import InputError
from scaling.laws import card_markdown
from scaling.laws.figures import svg
from scaling.motion.clip import Motion
from scaling.motion.corpus import Corpus
from scaling.motion.native import write_npz
from scaling.policy.check import check_policy
from scaling.policy.export import export_policy
from scaling.record.files import read_json, write_json
from scaling.record.progress import Progress
from scaling.record.store import Artifact, ArtifactStore
from scaling.robot.model import CONVERGED
from scaling.study.closed_loop import TEACHERS, closed_loop_rows
from scaling.study.comparisons import CAPTIONS, comparisons, curve_rows
from scaling.study.config import StudyConfig
from scaling.study.corpus_stages import Clusters, store_of
from scaling.study.results import DATA_AXES, LawResult, law_figure
from scaling.study.stages import Teaching
from scaling.tracking.evaluate import Starts, Trace, make_player, scores
from scaling.tracking.physics import CPhysics
from scaling.view import sections
from scaling.view.render import view_rollout
from scaling.view.report import write_report
from scaling.view.rollout import Rollout

POLICY_VERSION = 2
RENDER_VERSION = 2
_CHECK, _POLICY, _VIEWS = "check.json", "policy", "views.json"
_PICTURES = ("strip", "video", "player")

SHOWN_COLUMNS = (
    "run",
    "params",
    "arm",
    "clusters",
    "seed",
    "unique_frames",
    "hours",
    "val_loss",
    "val_loss_own",
    "success_sonic",
    "survival_s",
    "survival_s_assist0",
    "mpjpe_l_mm",
)


def export_best(student: Student, row: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Exports and checks in a fresh process; the check's report.

    Raises InputError where the exported program does not repeat the student.
    """
    folder = export_policy(student.config, student.params, student.normaliser, student.action_scale, row, out)
    report = check_policy(folder)
    if not report["ok"]:
        raise InputError(f"{folder}: the exported policy does not repeat the student: {'; '.join(report['failures'])}")
    return report


def roll_out(
    student: Student, corpus: Corpus, segment: int, strengths: Sequence[float], protocol: str, seconds: float
) -> list[Rollout]:
    """One clip from its first frame in converged C MuJoCo, once at each assist of `strengths` (one program for all)."""
    store = store_of(corpus)
    steps = min(round(seconds * 50), int(corpus.length[segment]) - 1)
    starts = Starts(jnp.array([segment]), jnp.zeros(1, jnp.int32), jnp.array([steps]))
    play = make_player(CPhysics(CONVERGED), policy(student.config), protocol)
    params = policy_params(student)
    traces = {a: play(params, store, starts, jnp.asarray(a, jnp.float32), steps) for a in strengths}
    return [_rollout(student, corpus, segment, assist, trace) for assist, trace in traces.items()]


def _rollout(student: Student, corpus: Corpus, segment: int, assist: float, trace: Trace) -> Rollout:
    result = scores(trace)
    failed = np.flatnonzero(np.asarray(trace.failed[:, 0]))
    return Rollout(
        qpos=np.asarray(trace.qpos[:, 0]),
        reference=corpus.segment(segment)[1 : len(trace.qpos) + 1],
        rate_hz=50.0,
        title=f"{corpus.names[segment]} by {student.config.family}",
        assist=assist,
        failed_at=int(failed[0]) if len(failed) else None,
        metrics={"survival_s": float(result.seconds[0]), "mpjpe_l_mm": float(result.mpjpe_l_mm[0])},
    )


def shown_segment(corpus: Corpus) -> int:
    """The segment that is drawn and written: the first that no student saw."""
    return int(corpus.indices("val")[0])


def write_clip(corpus: Corpus, path: Path) -> Path:
    """The segment that is drawn, as a motion file, for the bridge to track as well."""
    segment = shown_segment(corpus)
    return write_npz(Motion(corpus.segment(segment), corpus.rate_hz, corpus.names[segment]), path)


def render_best(student: Student, corpus: Corpus, config: StudyConfig, out: Path) -> list[tuple[dict[str, Any], str]]:
    """The student on the first held-out `val` clip, at the study's assist and at 0: (view, caption)."""
    segment = shown_segment(corpus)
    views = []
    strengths = list(dict.fromkeys((config.assist, 0.0)))
    for rollout in roll_out(student, corpus, segment, strengths, config.closed_loop.protocol, 6.0):
        folder = out / f"assist{rollout.assist:g}"
        view = view_rollout(rollout, folder)
        rollout.save(folder / "rollout.npz")
        views.append((view, rollout.caption()))
    return views


def policy_stage(store: ArtifactStore, student: Student, row: Mapping[str, Any]) -> Artifact:
    """The exported policy of a row's student, checked."""

    def build(work: Path) -> None:
        write_json(work / _CHECK, export_best(student, row, work / _POLICY))

    return store.stage("policy", _lasting(row), {"student": row["config_hash"]}, POLICY_VERSION, build)


def load_check(artifact: Artifact) -> dict[str, Any]:
    """The check of an exported policy, with its folder under `policy`."""
    return read_json(artifact.path / _CHECK) | {"policy": artifact.path / _POLICY}


def render_stage(
    store: ArtifactStore, config: StudyConfig, corpus: Artifact, student: Student, row: Mapping[str, Any]
) -> Artifact:
    """The student of a row, drawn on a held-out clip."""
    key = {"row": _lasting(row), "protocol": config.closed_loop.protocol, "assist": config.assist}

    def build(work: Path) -> None:
        with Progress("render", 1) as progress:
            views = render_best(student, Corpus.load(corpus.path), config, work)
            progress.update(1)
        write_json(
            work / _VIEWS, [[_map_paths(view, lambda path: path.relative_to(work)), text] for view, text in views]
        )

    inputs = {"student": row["config_hash"], "corpus": corpus}
    return store.stage("render", key, inputs, RENDER_VERSION, build)


def load_views(artifact: Artifact) -> list[tuple[dict[str, Any], str]]:
    """What `render_best` gave: each view with its caption."""
    kept = read_json(artifact.path / _VIEWS)
    return [(_map_paths(view, lambda path: artifact.path / path), text) for view, text in kept]


def _map_paths(view: Mapping[str, Any], change: Callable[[Path], Path]) -> dict[str, Any]:
    return {key: str(change(Path(value))) if key in _PICTURES else value for key, value in view.items()}


def _lasting(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what differs each time it is made."""
    return {name: value for name, value in row.items() if name not in CIRCUMSTANCES}


def competence_section(teachings: Sequence[Teaching]) -> list[sections.Competence]:
    """Experts beside open-loop playback, by bank."""
    parts = []
    for teaching in teachings:
        card = teaching.card()
        comparisons = [
            sections.Comparison(
                cluster=f"cluster {row['cluster']}",
                assist=row["assist"],
                quantity=quantity,
                unit=unit,
                expert=_estimate(row[f"expert_{column}"]),
                open_loop=_estimate(row[f"open_loop_{column}"]),
                better=better,  # type: ignore[arg-type]
            )
            for row in card.competence
            for quantity, column, unit, better in (
                ("survival", "seconds", "s", "higher"),
                ("joint error", "mpjpe_rad", "rad", "lower"),
            )
        ]
        beaten = [row for row in card.competence if row["assist"] == card.assist and row["beats_open_loop"]]
        note = (
            f"{card.trainer.upper()} on {card.physics}, {card.env_steps:,} environment steps, trained at assist "
            f"{card.assist:g} from a clone of stiffer servos (warm start {card.config['warm_start']:g}). "
            f"{len(beaten)} of {card.clusters} experts beat open-loop playback at that assist (1.3x its survival, or "
            "equal survival with 10 % less joint error, intervals apart). Scored in converged C MuJoCo over "
            f"{card.competence[0]['starts']} random starts; 95 % intervals."
        )
        parts.append(sections.Competence(f"Experts, K = {card.clusters}", comparisons, note))
    return parts


def closed_loop_section(
    rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any], config: StudyConfig
) -> sections.Table:
    """The exported student, and those fine-tuned before and after, beside the experts and playback of each bank, on
    every split that was played.
    """
    lines = closed_loop_rows(rows, config.closed_loop.splits)
    tuned = [row for row in rows if row.get("tuned_from") is not None]
    who = {best["run"], *(row["run"] for row in tuned), *(row["tuned_from"] for row in tuned)}
    shown = [line for line in lines if line["who"] in who or line["who"].startswith(TEACHERS)]
    note = f"The same {config.closed_loop.starts} starts of each split, at most {config.closed_loop.seconds:g} s long."
    return sections.Table("Closed loop, beside experts and open-loop playback", shown, list(shown[0]), note)


def simulator_section(teachings: Sequence[Teaching]) -> list[sections.Table]:
    """How far the simulators that experts dreamed in depart from C MuJoCo on motions that they never saw."""
    parts = []
    for teaching in teachings:
        folder = teaching.bank.path / SIMULATOR
        card = load(folder).card if folder.exists() else None
        if card is None:
            continue
        rows = [
            {"steps": row["horizon"], **{name: row[name] for name in _ERRORS}, "predictor": row["predictor"]}
            for row in card.errors
            if row["states"] == "all" and row["windows"]
        ]
        note = (
            f"Errors after so many control steps of 20 ms of the experts' noisy play along test motions, beside what "
            f"learns nothing; {card.transitions:,} steps, {card.failed_share:.0%} of them after a fall."
        )
        title = f"The learned simulator of the experts, K = {teaching.k}"
        parts.append(sections.Table(title, rows, ["steps", "predictor", *_ERRORS], note))
    return parts


def compared(rows: Sequence[dict[str, Any]], curves: Sequence[dict[str, Any]]) -> list[sections.Figure]:
    """The comparisons that the rows can show; those of several panels take the width of the page."""
    drawn = comparisons(rows, curves)
    return [sections.Figure(svg(one), CAPTIONS[name], wide=len(one.axes) > 1) for name, one in drawn.items()]


def comparison_section(rows: Sequence[dict[str, Any]], runs: Path) -> list[sections.Figures]:
    """Families, clusters, throughput and success, as far as the rows can show them."""
    pictures = compared(rows, curve_rows(rows, runs))
    return [sections.Figures("Families, clusters and throughput", pictures)] if pictures else []


_ERRORS = ("root_m", "root_rad", "joints_rad", "joints_rad_s")


def _estimate(triple: Sequence[float]) -> sections.Estimate:
    value, low, high = (float(x) if np.isfinite(x) else None for x in triple)
    return sections.Estimate(value, low, high)


def publish_report(
    path: Path,
    config: StudyConfig,
    corpus: Corpus,
    clusters: Mapping[int, Clusters],
    teachings: Sequence[Teaching],
    rows: Sequence[dict[str, Any]],
    result: LawResult,
    best: Mapping[str, Any],
    check: Mapping[str, Any],
    views: Sequence[tuple[dict[str, Any], str]],
    seconds: Mapping[str, float],
    cached: Sequence[str],
    command: str,
) -> Path:
    """The self-contained HTML page."""
    minutes = {split: corpus.hours(corpus.indices(split)) * 60 for split in ("train", "val", "test")}
    assist, survival = f"{config.assist:g}", f"{best['survival_s']:.2f} s"
    if config.assist:
        survival += f" ({best['survival_s_assist0']:.2f} s)"
    curves = sections.Figure(
        law_figure(rows, result, config),
        "Validation loss of each run; hollow points are held out of the fits.",
        wide=True,
    )
    source = config.motions.path or f"generated motion (seed {config.motions.seed})"
    parts: list[Any] = [
        sections.Headline(
            sentences=[
                f"{len(rows)} students distilled from banks of {' and '.join(map(str, config.clusters))} experts on "
                f"{source}: {minutes['train']:.1f} min to train on, {minutes['val']:.1f} min of validation."
            ],
            verdict=" ".join(result.sentences[:1]),
            validated=(result.validated if result.supported else None),
            facts={
                "assist (in brackets: at 0)" if config.assist else "assist": assist,
                "best student": best["run"],
                "its survival": survival,
                "export difference": f"{check['max_abs_difference']:.1e}",
            },
        ),
        sections.Figures(
            "Scaling curves",
            [curves],
            note="\n".join(f"- {sentence}" for sentence in result.sentences),
        ),
        *comparison_section(rows, path.parent / "runs"),
        sections.Table("Runs", list(rows), [c for c in SHOWN_COLUMNS if any(c in row for row in rows)]),
        closed_loop_section(rows, best, config),
        *competence_section(teachings),
        *simulator_section(teachings),
        sections.Renderings("The exported student on a held-out clip", list(views)),
    ]
    parts += [
        sections.FitCard(f"Fit card: {' '.join(map(str, group))}", card_markdown(law))
        for (axis, group), law in result.laws.items()
        if axis == DATA_AXES[0]
    ]
    parts += [
        sections.Table(
            "Clusters",
            [
                {
                    "K": k,
                    "sizes": ", ".join(map(str, c.report["sizes"])),
                    "balance": c.report["balance"],
                    "ARI": c.report["stability_ari"],
                    "names": " | ".join(c.report.get("names", ())),
                }
                for k, c in clusters.items()
            ],
        ),
        sections.Stages(dict(seconds), list(cached)),
        sections.Configuration(
            asdict(config), {f"bank K={t.k}": t.bank.hash for t in teachings} | {"corpus": corpus.content_hash}
        ),
        sections.Reproduce([command]),
    ]
    return write_report(path, title=f"Scaling study: {config.name}", sections=parts)
