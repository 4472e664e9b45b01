"""The whole pipeline in one call: motion files in; table, law, report, policy and picture out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling.distill.student import Student
from scaling.motion.corpus import Corpus
from scaling.record.files import read_json, write_json
from scaling.record.progress import say
from scaling.record.store import Artifact, ArtifactStore
from scaling.study import corpus_stages, judge, publish, stages, student_stages, tuned_stages
from scaling.study.config import StudyConfig, quickstart
from scaling.study.experiments import override
from scaling.study.results import (
    Finished,
    LawResult,
    best_row,
    direct_rows,
    laws_stage,
    record_run,
    rows_of_group,
    write_results,
)


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


def run_quickstart(
    motions: str | None = None,
    out: Path | str = "runs/quickstart",
    experts: str = "dream",
    bank: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`scaling quickstart`: runs the newcomer's study, with figures replaced by dotted path, below `out` and returns
    paths and seconds (CLI.md).
    """
    config = quickstart(motions, experts, bank)
    for path, value in (overrides or {}).items():
        config = override(config, path, value)
    say(f"experts: {_RECIPES[experts]}" if bank is None else f"experts: those kept in {bank}")
    return run_study(config, Path(out), _command(motions, out, experts, bank, overrides or {}))


_RECIPES = {
    "dream": "through a learned simulator, at assist 0 (--experts ppo for the published recipe)",
    "ppo": "PPO, with a harness of .1 (--experts dream is faster)",
}


def _command(motions: str | None, out: Path | str, experts: str, bank: str | None, overrides: Mapping[str, Any]) -> str:
    return (
        "scaling quickstart"
        + (f" --motions {motions}" if motions else "")
        + (f" --experts {experts}" if experts != "dream" else "")
        + (f" --bank {bank}" if bank else "")
        + "".join(f" --set {path}={value}" for path, value in overrides.items())
        + f" --out {out}"
    )


def _reference(
    store: ArtifactStore, config: StudyConfig, corpus: Artifact, embedding: Artifact | None, clock: _Clock
) -> Artifact | None:
    """The validation set of the reference bank, where the study has one."""
    if not config.reference or embedding is None:
        return None
    apart, k = judge.reference_study(config), config.clusters[0]
    clusters = clock.keep("reference: clusters", corpus_stages.cluster_stage(store, corpus, embedding, k, apart.seed))
    bank = clock.keep("reference: experts", stages.bank_stage(store, apart, corpus, clusters))
    return clock.keep("reference: validation set", stages.valset_stage(store, apart, corpus, clusters, bank))


def run_study(config: StudyConfig, out: Path, command: str = "") -> dict[str, Any]:
    """Every stage of a study that is not done yet, then table, laws, policy, rendering and report."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    store, clock = ArtifactStore(out / "store"), _Clock()
    corpus_artifact = clock.keep("corpus", corpus_stages.corpus_stage(store, config))
    corpus = Corpus.load(corpus_artifact.path)
    embedding = None
    if config.bank is None:
        made = corpus_stages.embedding_stage(store, corpus_artifact, config.embed)
        embedding = clock.keep("embedding", made)
    splits = corpus_stages.played_splits(config)
    clusters: dict[int, corpus_stages.Clusters] = {}
    teachings: list[stages.Teaching] = []
    for k in config.clusters:
        teaching = stages.teaching_stages(store, config, corpus_artifact, k, clock.keep, embedding)
        clusters[k] = corpus_stages.load_clusters(teaching.clusters)
        teachings.append(teaching)
    runs = student_stages.runs_of(config, corpus, clusters[config.clusters[0]])
    reference = _reference(store, config, corpus_artifact, embedding, clock)

    def finished(family: str, size: str, more: str, group: Artifact, runs: Sequence[student_stages.Run]) -> Finished:
        words = f"{family} {size}{more}"
        played = {
            split: clock.keep(
                f"closed loop {words} on {split}",
                judge.closed_loop_stage(store, config, corpus_artifact, group, runs, split),
            )
            for split in splits
        }
        losses = None
        if reference is not None:
            losses = judge.reference_stage(store, corpus_artifact, reference, group, runs)
            clock.keep(f"reference loss {words}", losses)
        students = student_stages.load_students(group, runs)
        return Finished(family, size, group, runs, students, judge.load_closed_loop(played, losses))

    rows: list[dict[str, Any]] = []
    trained: dict[str, Student] = {}
    for family in config.families:
        for size in config.sizes:
            pretrained = student_stages.pretrain_stage(store, config, corpus_artifact, family, size)
            if pretrained is not None:
                clock.keep(f"pretraining {family} {size}", pretrained)
            group = clock.keep(
                f"students {family} {size}",
                student_stages.students_stage(store, config, corpus_artifact, teachings, family, size, pretrained),
            )
            distilled = finished(family, size, "", group, runs)
            done = [(distilled, rows_of_group(config, distilled, teachings))]
            after = tuned_stages.tuned_runs(config, corpus, clusters[config.clusters[0]])
            if after:
                tuned = clock.keep(
                    f"fine-tuning {family} {size}",
                    tuned_stages.tuned_stage(store, config, corpus_artifact, group, teachings[0].valset, after),
                )
                changed = finished(family, size, ", fine-tuned,", tuned, after)
                done.append((changed, tuned_stages.tuned_rows(config, changed, teachings)))
            if config.direct is not None:
                alone = clock.keep(
                    f"direct {family} {size}",
                    student_stages.direct_stage(store, config, corpus_artifact, teachings[0].clusters, family, size),
                )
                untaught = student_stages.direct_runs(config, corpus, clusters[config.clusters[0]])
                others = finished(family, size, ", direct,", alone, untaught)
                done.append((others, direct_rows(config, others)))
            for told, found in done:
                for row, run, student in zip(found, told.runs, told.students, strict=True):
                    record = out / "runs" / f"{row['run']}-{row['config_hash']}"
                    record_run(record, row | told.saved(run), student)
                    trained[row["run"]] = student
                rows += found
    fitted = clock.keep("laws", laws_stage(store, config, rows))
    result = LawResult.from_json(read_json(fitted.path / "law.json"))
    table, law = write_results(out, rows, result, splits)
    best = best_row(rows, config.closed_loop.protocol)
    exported = clock.keep("export", publish.policy_stage(store, trained[best["run"]], best))
    drawn = clock.keep("render", publish.render_stage(store, config, corpus_artifact, trained[best["run"]], best))
    clip = publish.write_clip(corpus, out / "clip.npz")
    check, views = publish.load_check(exported), publish.load_views(drawn)
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
        "clip": str(clip),
        "seconds": clock.seconds,
        "cached": clock.cached,
        "sentences": result.sentences,
        "banks": [str(teaching.bank.path) for teaching in teachings],
        "best": best["run"],
        "export_max_abs_difference": check["max_abs_difference"],
        "renderer": views[0][0]["renderer"],
        "renderer_reason": views[0][0]["reason"],
    }
    write_json(out / "summary.json", summary)
    return summary
