"""A study as jobs: each stage under the key that the artifact store gives it, and one job that makes the rows.

A stage's function is called twice, with two stores that look alike: one that only answers with the key, for the plan,
and one that builds into the folder of the attempt. So a sweep computes what `run_study` does, and keys cannot drift.

A key names the physics, and "auto" is another one on another machine: a pool of both kinds would do everything twice,
or mix two physics in one table. So a sweep states its physics, and who plans or holds a lease starts no JAX.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.experts.bank import load_card
from scaling.motion.corpus import Corpus
from scaling.record.files import read_json
from scaling.record.store import Artifact, ArtifactStore, Input
from scaling.students.count import acting_parameters
from scaling.study import corpus_stages, judge, stages, student_stages, sweep_cost, tuned_stages
from scaling.study.config import StudyConfig
from scaling.study.results import Finished, direct_rows, record_run, rows_of_group
from scaling.study.stages import Teaching
from scaling.study.student_stages import direct_runs, direct_stage, student_config
from scaling.study.sweep import Job, Needed, Run, job_key
from scaling.study.sweep_cost import Device
from scaling.tracking.physics import BACKENDS

ROWS_VERSION = 3
_UNBUILT = Path("not-built-yet")


class Keys(ArtifactStore):
    """Answers every stage with its key; builds nothing."""

    def __init__(self) -> None:
        super().__init__(_UNBUILT)

    def stage(
        self, name: str, config: Any, inputs: Mapping[str, Input], version: int, build: Callable[[Path], None]
    ) -> Artifact:
        """The artifact as it will be named."""
        return Artifact(name, _UNBUILT, self.key(name, config, inputs, version), False, 0.0)


@functools.cache
def _keys() -> Keys:
    return Keys()


class Builds(ArtifactStore):
    """Builds the one stage of key `wanted` in the folder `work`."""

    def __init__(self, work: Path, wanted: str) -> None:
        super().__init__(work)
        self._wanted = wanted

    def stage(
        self, name: str, config: Any, inputs: Mapping[str, Input], version: int, build: Callable[[Path], None]
    ) -> Artifact:
        """Builds it. RuntimeError where the key is another one than was planned."""
        key = self.key(name, config, inputs, version)
        if key != self._wanted:
            raise RuntimeError(f"{name} was planned as {self._wanted} and is built as {key}: start the workers anew")
        build(self.root)
        return Artifact(name, self.root, key, False, 0.0)


Call = Callable[[ArtifactStore, Mapping[str, Artifact]], Artifact]


def _stage(
    name: str,
    call: Call,
    needs: Mapping[str, Job],
    config: Any,
    seconds: float = 0.0,
    megabytes: float = 0.0,
    env_steps: float = 0.0,
    stepped: Callable[[Path], int] = lambda work: 0,
    together: bool = False,
) -> Job:
    """The job of one stage; `needs` are the jobs whose artifacts it is given, by label.

    `env_steps` is the estimate, `stepped` reads the truth in the finished folder. What is trained over all devices is
    done `together` by a gang.
    """
    keys = {label: job.key for label, job in needs.items()}
    planned = call(_keys(), {label: Artifact(label, _UNBUILT, key, False, 0.0) for label, key in keys.items()})

    def action(work: Path, needed: Mapping[str, Needed]) -> dict[str, Any]:
        call(Builds(work, planned.hash), _artifacts(needed, keys))
        return {"artifact": planned.hash, "env_steps": stepped(work)}

    bill = (seconds, megabytes, env_steps)
    return Job(planned.hash, planned.name, name, config, action, keys, False, *bill, together=together)


def _bank_stepped(work: Path) -> int:
    return load_card(work).env_steps


def _students_stepped(work: Path) -> int:
    cards = [read_json(path) for path in work.glob("*/student.json")]
    return sum(card["columns"]["env_steps"] for card in cards)


def _tuned_stepped(work: Path) -> int:
    cards = [read_json(path) for path in work.glob("*/student.json")]
    return sum(card["columns"]["tuned_env_steps"] for card in cards)


def _artifacts(needed: Mapping[str, Needed], keys: Mapping[str, str]) -> dict[str, Artifact]:
    return {label: Artifact(label, one.path, keys[label], True, 0.0) for label, one in needed.items()}


@dataclass(frozen=True)
class StudyJobs:
    """The jobs of every run of a sweep of studies, priced for a device."""

    device: Device = sweep_cost.CPU

    def __call__(self, run: Run) -> Iterator[Job]:
        """All jobs of one study, each after those that it needs.

        Raises InputError for a study whose physics is what each machine happens to have.
        """
        config: StudyConfig = run.config
        _check_physics(config)
        corpus = _corpus(config.motions, config.corpus, config.arms, config.clusters, config.bank)
        yield corpus
        embedding = _embedding(config, corpus)
        if embedding is not None:
            yield embedding
        teachings: dict[str, Job] = {}
        for k in config.clusters:
            teachings |= self._teaching(config, corpus, embedding, k)
        yield from teachings.values()
        reference = None
        if config.reference:
            apart = judge.reference_study(config)
            clusters, bank, reference = self._learned_from(apart, corpus, embedding, config.clusters[0], "reference: ")
            yield from (clusters, bank, reference)
        for family in config.families:
            for size in config.sizes:
                yield from self._student(config, corpus, teachings, reference, family, size)

    def _teaching(self, config: StudyConfig, corpus: Job, embedding: Job | None, k: int) -> dict[str, Job]:
        """What `k` experts come to: one job each, however many students need them."""
        clusters, bank, valset = self._learned_from(config, corpus, embedding, k)
        played = _stage(
            f"closed loop of experts K={k}",
            lambda store, given: stages.teachers_stage(
                store, config, given["corpus"], given["clusters"], given["bank"]
            ),
            {"corpus": corpus, "clusters": clusters, "bank": bank},
            {"clusters": k, "closed_loop": config.closed_loop, "assist": config.assist},
            sweep_cost.played_seconds(config, self.device),
        )
        return {f"clusters-{k}": clusters, f"bank-{k}": bank, f"valset-{k}": valset, f"played-{k}": played}

    def _learned_from(
        self, config: StudyConfig, corpus: Job, embedding: Job | None, k: int, words: str = ""
    ) -> tuple[Job, Job, Job]:
        """Clustering, bank and validation set of `k` experts."""
        start = self.device.start_s

        def cluster(store: ArtifactStore, given: Mapping[str, Artifact]) -> Artifact:
            if config.bank is not None:
                return corpus_stages.kept_cluster_stage(store, given["corpus"], config.bank)
            return corpus_stages.cluster_stage(store, given["corpus"], given["embedding"], k, config.seed)

        needs = {"corpus": corpus} | ({} if embedding is None else {"embedding": embedding})
        clusters = _stage(f"{words}clusters K={k}", cluster, needs, {"clusters": k, "seed": config.seed}, start)
        bank = _stage(
            f"{words}experts K={k}",
            lambda store, given: stages.bank_stage(store, config, given["corpus"], given["clusters"], k),
            {"corpus": corpus, "clusters": clusters},
            {"clusters": k, "experts": config.experts, "seed": config.seed},
            start if config.bank else sweep_cost.bank_seconds(config, k, self.device),
            sweep_cost.bank_megabytes(config, k),
            0.0 if config.bank else sweep_cost.bank_steps(config, k),
            (lambda work: 0) if config.bank else _bank_stepped,  # a kept bank was paid for elsewhere
            together=config.bank is None,
        )
        valset = _stage(
            f"{words}validation set K={k}",
            lambda store, given: stages.valset_stage(store, config, given["corpus"], given["clusters"], given["bank"]),
            {"corpus": corpus, "clusters": clusters, "bank": bank},
            {"clusters": k, "val": config.val},
            2 * start,
        )
        return clusters, bank, valset

    def _student(
        self,
        config: StudyConfig,
        corpus: Job,
        teachings: Mapping[str, Job],
        reference: Job | None,
        family: str,
        size: str,
    ) -> Iterator[Job]:
        """All arms and seeds of one student, its closed loop and its rows; the same after PPO, and without experts,
        where asked.
        """
        given_all = {"corpus": corpus, **teachings}
        words = f"{family} {size}"
        figures = {"family": family, "size": size, "arms": config.arms, "seeds": config.seeds, "dagger": config.dagger}
        trunk: dict[str, Job] = {}
        if config.pretrain.hours:
            trunk["pretrained"] = _stage(
                f"pretraining {words}",
                functools.partial(self._pretrained, config, family, size),
                {"corpus": corpus},
                {"family": family, "size": size, "pretrain": config.pretrain, "seeds": config.seeds},
                sweep_cost.pretrain_seconds(config, family, size, self.device),
            )
            yield trunk["pretrained"]
        group = _stage(
            f"students {words} K={','.join(map(str, config.clusters))}",
            lambda store, given: student_stages.students_stage(
                store, config, given["corpus"], _teachings(config, given), family, size, given.get("pretrained")
            ),
            given_all | trunk,
            figures,
            sweep_cost.students_seconds(config, family, size, self.device),
            sweep_cost.students_megabytes(config, family, size),
            sweep_cost.students_steps(config),
            _students_stepped,
            together=True,
        )
        played = self._played(config, corpus, teachings, reference, group, words, student_stages.runs_of)
        yield from (group, *played.values())
        yield _rows(config, family, size, given_all | {"students": group, **played}, "taught")
        strata = teachings[f"clusters-{config.clusters[0]}"]
        if config.finetune.iterations:
            tuned = _stage(
                f"fine-tuning {words}",
                lambda store, given: tuned_stages.tuned_stage(
                    store, config, given["corpus"], given["students"], given["valset"],
                    _runs_if_built(tuned_stages.tuned_runs, config, store, given),
                ),
                {"corpus": corpus, "clusters": strata, "students": group}
                | {"valset": teachings[f"valset-{config.clusters[0]}"]},
                figures | {"finetune": config.finetune},
                sweep_cost.tuned_seconds(config, family, size, self.device),
                env_steps=sweep_cost.tuned_steps(config),
                stepped=_tuned_stepped,
                together=True,
            )  # fmt: skip
            after = tuned_stages.tuned_runs
            played = self._played(config, corpus, teachings, reference, tuned, f"{words}, fine-tuned,", after)
            yield from (tuned, *played.values())
            yield _rows(config, family, size, given_all | {"students": tuned, **played}, "tuned")
        if config.direct is None:
            return
        alone = _stage(
            f"direct {words}",
            lambda store, given: direct_stage(store, config, given["corpus"], given["clusters"], family, size),
            {"corpus": corpus, "clusters": strata},
            figures | {"direct": config.direct},
            sweep_cost.students_seconds(config, family, size, self.device),
            stepped=_students_stepped,
        )
        played = self._played(config, corpus, teachings, reference, alone, f"{words}, direct,", direct_runs)
        yield from (alone, *played.values())
        yield _rows(config, family, size, given_all | {"students": alone, **played}, "direct")

    @staticmethod
    def _pretrained(
        config: StudyConfig, family: str, size: str, store: ArtifactStore, given: Mapping[str, Artifact]
    ) -> Artifact:
        made = student_stages.pretrain_stage(store, config, given["corpus"], family, size)
        assert made is not None
        return made

    def _played(
        self,
        config: StudyConfig,
        corpus: Job,
        teachings: Mapping[str, Job],
        reference: Job | None,
        group: Job,
        words: str,
        runs_of: Any,
    ) -> dict[str, Job]:
        """The closed loop of a group, one job a split, and its loss against the reference bank, if any."""

        runs = functools.partial(_runs_if_built, runs_of, config)

        def play(store: ArtifactStore, given: Mapping[str, Artifact], split: str) -> Artifact:
            return judge.closed_loop_stage(store, config, given["corpus"], given["students"], runs(store, given), split)

        def measure(store: ArtifactStore, given: Mapping[str, Artifact]) -> Artifact:
            return judge.reference_stage(store, given["corpus"], given["valset"], given["students"], runs(store, given))

        needs = {"corpus": corpus, "clusters": teachings[f"clusters-{config.clusters[0]}"], "students": group}
        figures = {"closed_loop": config.closed_loop, "assist": config.assist}
        seconds = sweep_cost.played_seconds(config, self.device)
        found = {}
        for split in corpus_stages.played_splits(config):
            one = functools.partial(play, split=split)
            found[f"played-{split}"] = _stage(
                f"closed loop {words} on {split}", one, needs, figures | {"split": split}, seconds
            )
        if reference is not None:
            needs = needs | {"valset": reference}
            found["reference"] = _stage(f"reference loss {words}", measure, needs, {"seed": config.seed}, 10.0)
        return found


def _check_physics(config: StudyConfig) -> None:
    if config.physics == "auto":
        raise InputError(
            "physics=auto is another backend on another machine, and the rows of a sweep share one: "
            f"--set physics={' or physics='.join(BACKENDS)}"
        )


@functools.cache
def _corpus(motions: Any, corpus: Any, arms: tuple[float, ...], clusters: tuple[int, ...], bank: str | None) -> Job:
    """One corpus for all studies on the same motions, whose files are hashed once."""
    config = StudyConfig(motions=motions, corpus=corpus, arms=arms, clusters=clusters, bank=bank)
    figures = {"motions": motions, "corpus": corpus}
    return _stage("corpus", lambda store, given: corpus_stages.corpus_stage(store, config), {}, figures, 20.0, 50.0)


def _embedding(config: StudyConfig, corpus: Job) -> Job | None:
    """The embedding that all cluster counts share; None where a kept bank brings its clustering."""
    if config.bank is not None:
        return None
    return _stage(
        "embedding",
        lambda store, given: corpus_stages.embedding_stage(store, given["corpus"], config.embed),
        {"corpus": corpus},
        {"embed": config.embed},
        60.0 if config.embed.kind == "periodic" else 5.0,
    )


def _teachings(config: StudyConfig, given: Mapping[str, Artifact]) -> list[Teaching]:
    parts = ("clusters", "bank", "valset", "played")
    return [Teaching(k, *(given[f"{part}-{k}"] for part in parts)) for k in config.clusters]


def _runs(runs_of: Any, config: StudyConfig, corpus: Artifact, strata: Artifact) -> list[student_stages.Run]:
    return runs_of(config, Corpus.load(corpus.path), corpus_stages.load_clusters(strata))


def _runs_if_built(
    runs_of: Any, config: StudyConfig, store: ArtifactStore, given: Mapping[str, Artifact]
) -> list[student_stages.Run]:
    """The runs of a stage that is being built; for its key alone they are not needed."""
    return _runs(runs_of, config, given["corpus"], given["clusters"]) if isinstance(store, Builds) else []


_RUNS = {"taught": student_stages.runs_of, "tuned": tuned_stages.tuned_runs, "direct": direct_runs}


def _rows(config: StudyConfig, family: str, size: str, needs: Mapping[str, Job], kind: str) -> Job:
    """The rows of a finished group of a kind of `_RUNS`, and the record of each run with its curve."""
    keys = {label: job.key for label, job in needs.items()}

    def action(work: Path, needed: Mapping[str, Needed]) -> list[dict[str, Any]]:
        given = _artifacts(needed, keys)
        strata = given[f"clusters-{config.clusters[0]}"]
        runs = _runs(_RUNS[kind], config, given["corpus"], strata)
        splits = {split: given[f"played-{split}"] for split in corpus_stages.played_splits(config)}
        played = judge.load_closed_loop(splits, given.get("reference"))
        group = Finished(family, size, runs, student_stages.load_students(given["students"], runs), played)
        if kind == "direct":
            found = direct_rows(config, group)
        else:
            rows = rows_of_group if kind == "taught" else tuned_stages.tuned_rows
            found = rows(config, group, _teachings(config, given))
        for row, student in zip(found, group.students, strict=True):
            record_run(work / "runs" / row["run"], row, student)
        return found

    figures = {"study": config, "family": family, "size": size, "taught": kind == "taught"}
    figures |= {"tuned": True} if kind == "tuned" else {}
    key = job_key("rows", figures, keys, ROWS_VERSION)
    words = {"taught": "", "tuned": ", fine-tuned", "direct": ", direct"}[kind]
    name = f"rows {family} {size} K={','.join(map(str, config.clusters))}{words}"
    expects = _expected(config, family, size) if kind == "taught" else ()
    return Job(key, "rows", name, figures, action, keys, rows=True, seconds=5.0, expects=expects, together=False)


def _expected(config: StudyConfig, family: str, size: str) -> list[dict[str, Any]]:
    """What is known of the rows of a group before its corpus is there: no frames, but the arms."""
    known = {
        "student": family,
        "size": size,
        "params": acting_parameters(student_config(config, family, size)),
        "updates": config.dagger.updates,
        "flops": sweep_cost.students_flops(config, family, size),
        "status": "finished",
    }
    return [
        {**known, "clusters": k, "arm": arm, "seed": seed}
        for teacher, k in enumerate(config.clusters)
        for arm in (config.arms if teacher == 0 else (1.0,))
        for seed in range(config.seeds)
    ]
