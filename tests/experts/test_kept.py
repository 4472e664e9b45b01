"""A bank in the repository: what comes back, and which motions it refuses."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.errors import InputError
from scaling.experts.bank import BankCard
from scaling.experts.kept import check_kept, halved, load_kept, save_kept, split_as_kept
from scaling.motion.corpus import CorpusConfig, build_corpus
from scaling.motion.segment import SegmentConfig
from scaling.motion.synthetic import corpus_motions
from tests.distill.samples import linear_bank

CARD = BankCard("dream", "mujoco", 0.0, 2, 10, {"envs": 4}, [{"cluster": 0}, {"cluster": 1}])


@pytest.fixture(scope="module")
def corpus():
    """A few short segments."""
    motions = corpus_motions(24.0, 0, families=("squat", "arm_wave"), take_seconds=4.0)
    return build_corpus(motions, CorpusConfig(segments=SegmentConfig(4.0, 4.0, 8.0), val=0.34, test=0.16))


@pytest.fixture
def folder(corpus, tmp_path):
    """A bank kept."""
    labels = np.arange(len(corpus)) % 2
    save_kept(tmp_path, linear_bank(2, 0), CARD, labels, corpus, {"motions": {"seed": 0}}, "a command")
    return tmp_path


def test_what_was_kept_comes_back_as_it_was_scored(folder, corpus):
    kept = load_kept(folder)
    scored = halved(linear_bank(2, 0))
    for mine, same in zip(jax.tree.leaves(kept.bank), jax.tree.leaves(scored), strict=True):
        assert mine.dtype == jnp.float32
        np.testing.assert_array_equal(mine, same)
    error = np.abs(np.asarray(scored.kernels[0]) - np.asarray(linear_bank(2, 0).kernels[0])).max()
    assert 0 < error < 1e-3
    assert kept.card == CARD and kept.command == "a command" and kept.config == {"motions": {"seed": 0}}
    assert kept.labels.tolist() == [i % 2 for i in range(len(corpus))]
    assert kept.content_hash == load_kept(folder).content_hash
    check_kept(folder, kept, corpus)
    last_digits = replace(corpus, qpos=corpus.qpos + np.float32(1e-6))  # another machine's sine
    check_kept(folder, kept, last_digits)


def test_what_nobody_saw_when_the_bank_was_trained_stays_unseen(folder, corpus):
    kept = load_kept(folder)
    otherwise = replace(corpus, splits=("train",) * len(corpus))
    assert split_as_kept(folder, kept, otherwise).splits == corpus.splits != otherwise.splits
    with pytest.raises(InputError, match="other motions"):
        split_as_kept(folder, kept, replace(corpus, qpos=corpus.qpos + np.float32(0.01)))


def test_other_motions_are_refused_with_the_command_that_made_the_bank(folder, corpus):
    kept = load_kept(folder)
    for other in (
        replace(corpus, qpos=corpus.qpos + np.float32(0.01)),
        replace(corpus, names=[f"x{name}" for name in corpus.names]),
    ):
        with pytest.raises(InputError, match="other motions than these; it was trained by `a command`"):
            check_kept(folder, kept, other)


def test_no_bank_a_damaged_one_and_one_of_other_observations_are_one_sentence(folder, tmp_path):
    with pytest.raises(InputError, match="no kept bank here"):
        load_kept(tmp_path / "nowhere")
    meta = json.loads((folder / "bank.json").read_text())
    (folder / "bank.json").write_text(json.dumps(meta | {"terms": ["gravity"]}))
    with pytest.raises(InputError, match="observations are not those of this version"):
        load_kept(folder)
    (folder / "bank.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="cannot be read"):
        load_kept(folder)
