"""PPO's benchmark: what its sizes mean, the bill by hand, and that compiling is timed without the cache."""

import jax
import jax.numpy as jnp
import pytest

from scaling.bench.experts import sizes
from scaling.bench.ppo import Sizes, bill_rows, uncached


def test_experts_share_the_environments():
    found = Sizes((1, 8, 64), 2048, 5)
    assert [found.of(count).envs for count in found.experts] == [2048, 256, 32]
    assert found.of(8).hidden == found.config.hidden and found.of(8).epochs == found.config.epochs


@pytest.mark.parametrize("quick", [True, False])
def test_the_sizes_of_this_machine_divide(quick):
    found = sizes(quick)
    for count in found.experts:
        assert found.of(count).envs * count == found.envs


@pytest.mark.parametrize(("experts", "envs"), [((1, 64), 512), ((8,), 512), ((1, 8, 64), 500)])
def test_sizes_that_cannot_be_compared_are_refused(experts, envs):
    with pytest.raises(ValueError, match="experts"):
        Sizes(experts, envs, 3)


def test_the_bill_by_hand():
    rows = {row.name: row.value for row in bill_rows(measured=1e6, roofline=4e6, physics_share=0.8)}
    assert rows["published_bank"] == pytest.approx(320.0)  # 1.152e12 steps at 1e6 a second
    assert rows["published_bank_at_roofline"] == pytest.approx(80.0)
    assert rows["roofline_physics_share"] == 0.8


def test_compiling_is_timed_without_the_cache(tmp_path):
    before = {name: getattr(jax.config, name) for name in ("jax_compilation_cache_dir", "jax_enable_compilation_cache")}
    floor = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        with uncached():
            jax.jit(lambda x: jnp.sin(x) + 1).lower(jnp.ones(3)).compile()
        assert not list(tmp_path.iterdir())
        jax.jit(lambda x: jnp.sin(x) + 2).lower(jnp.ones(3)).compile()
        assert list(tmp_path.iterdir())
        assert jax.config.jax_enable_compilation_cache == before["jax_enable_compilation_cache"]
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", floor)
        with uncached():  # forgets the folder that is about to go
            jax.config.update("jax_compilation_cache_dir", before["jax_compilation_cache_dir"])
