"""The whole pipeline in one call: motion files in; table, law, report, policy and picture out."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling.motion.corpus import Corpus
from scaling.record.files import write_json
from scaling.record.progress import say
from scaling.record.store import Artifact, ArtifactStore
from scaling.study import publish, stages
from scaling.study.config import StudyConfig, quickstart
from scaling.study.results import best_row, fit_laws, rows_of_group, write_results


class _Clock:
    """Seconds that each stage took when it was built, and which of them were there already."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cached: list[str] = []

    def keep(self, title: str, artifact: Artifact) -> Artifact:
        self.seconds[title] = artifact.seconds
        if artifact.cached:
            self.cached.append(title)
            say(f"{title}: already done ({artifact.hash})")
        return artifact

    def time(self, title: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        self.seconds[title] = time.perf_counter() - began
        return result


def run_quickstart(motions: str | None = None, out: Path | str = "runs/quickstart") -> dict[str, Any]:
    """`scaling quickstart`: runs the newcomer's study below `out` and returns paths and seconds (CLI.md)."""
    return run_study(quickstart(motions), Path(out), _command(motions, out))


def _command(motions: str | None, out: Path | str) -> str:
    return "scaling quickstart" + (f" --motions {motions}" if motions else "") + f" --out {out}"


def run_study(config: StudyConfig, out: Path, command: str = "") -> dict[str, Any]:
    """Every stage of a study that is not done yet, then table, laws, policy, rendering and report."""
    out.mkdir(parents=True, exist_ok=True)
    store, clock = ArtifactStore(out / "store"), _Clock()
    corpus_artifact = clock.keep("corpus", stages.corpus_stage(store, config))
    corpus = Corpus.load(corpus_artifact.path)
    clusters, teachings = {}, []
    for k in config.clusters:
        found = clock.keep(f"clusters K={k}", stages.cluster_stage(store, corpus_artifact, k, config.seed))
        clusters[k] = stages.load_clusters(found)
        bank = clock.keep(f"experts K={k}", stages.bank_stage(store, config, corpus_artifact, found))
        valset = clock.keep(
            f"validation set K={k}", stages.valset_stage(store, config, corpus_artifact, found, bank)
        )
        teachings.append(stages.Teaching(k, found, bank, valset))
    runs = stages.runs_of(config, corpus, clusters[config.clusters[0]])
    rows: list[dict[str, Any]] = []
    trained = {}
    for family in config.families:
        for size in config.sizes:
            group = clock.keep(
                f"students {family} {size}",
                stages.students_stage(store, config, corpus_artifact, teachings, family, size),
            )
            played = clock.keep(
                f"closed loop {family} {size}",
                stages.closed_loop_stage(store, config, corpus_artifact, group, runs, "val"),
            )
            students = stages.load_students(group, runs)
            rows += rows_of_group(
                config, family, size, runs, students, stages.load_closed_loop(played), teachings
            )
            trained |= {f"{family}-{size}-{run.spec.name}": s for run, s in zip(runs, students, strict=True)}
    result = clock.time("laws", lambda: fit_laws(rows, config))
    table, law = write_results(out, rows, result)
    best = best_row(rows, config.closed_loop.protocol)
    student = trained[best["run"]]
    taken = _takeaways(store, config, clock, corpus_artifact, student, best)
    check, views = taken
    report = publish.publish_report(
        out / "report.html",
        config,
        corpus,
        clusters,
        teachings,
        rows,
        result,
        best,
        check,
        views,
        clock.seconds,
        clock.cached,
        command,
    )
    summary = {
        "table": str(table),
        "law": str(law),
        "report": str(report),
        "policy": str(check["policy"]),
        "render": str(views[0][0]["strip"]),
        "video": str(views[0][0]["video"]),
        "seconds": clock.seconds,
        "cached": clock.cached,
        "sentences": result.sentences,
        "best": best["run"],
        "export_max_abs_difference": check["max_abs_difference"],
        "renderer": views[0][0]["renderer"],
        "renderer_reason": views[0][0]["reason"],
    }
    write_json(out / "summary.json", summary)
    return summary


def _takeaways(
    store: ArtifactStore,
    config: StudyConfig,
    clock: _Clock,
    corpus: Artifact,
    student: Any,
    best: dict[str, Any],
) -> tuple[dict[str, Any], list[tuple[dict[str, Any], str]]]:
    """The exported policy and the rendering, as stages of their own: both take longer than the report."""
    row = {name: value for name, value in best.items() if name not in ("seconds",)}

    def export(work: Path) -> None:
        report = publish.export_best(student, row, work / "policy")
        write_json(work / "check.json", {key: value for key, value in report.items() if key != "policy"})

    policy = clock.keep(
        "export", store.stage("policy", {"row": row}, {"student": best["config_hash"]}, 1, export)
    )

    def render(work: Path) -> None:
        views = publish.render_best(student, Corpus.load(corpus.path), config, work)
        kept = [
            ({key: (str(Path(value).relative_to(work)) if isinstance(value, Path) else value) for key, value in view.items()}, caption)
            for view, caption in views
        ]
        write_json(work / "views.json", kept)

    drawn = clock.keep(
        "render",
        store.stage(
            "render",
            {"row": row, "closed_loop": config.closed_loop, "assist": config.assist},
            {"student": best["config_hash"], "corpus": corpus},
            1,
            render,
        ),
    )
    check = stages.read_json(policy.path / "check.json") | {"policy": policy.path / "policy"}
    views = [
        ({key: (drawn.path / value if key in ("strip", "video", "player") else value) for key, value in view.items()}, caption)
        for view, caption in stages.read_json(drawn.path / "views.json")
    ]
    return check, views


def smaller(config: StudyConfig, **changes: Any) -> StudyConfig:
    """The study with some fields replaced (validated anew)."""
    return replace(config, **changes)
