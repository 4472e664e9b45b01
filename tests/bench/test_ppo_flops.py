"""FLOPs of PPO's networks: the count's weights are the real ones, and XLA counts the same for the loss's gradient."""

import math

import jax
import jax.numpy as jnp
import pytest
from brax.training.agents.ppo import losses

from scaling.bench.ppo_flops import flops_per_step, forward_flops, gradient_flops, layers, loss_flops_per_step
from scaling.contract.observation import EXPERT_TERMS, observation_dim
from scaling.experts.loss import Rollout, Weights, ppo_loss
from scaling.experts.ppo import PPOConfig, make_networks

CONFIG = PPOConfig()
ROWS = CONFIG.envs // CONFIG.minibatches


def networks_of(config):
    networks = make_networks(config)
    key = jax.random.key(0)
    policy, value = (jax.eval_shape(part.init, key) for part in (networks.policy_network, networks.value_network))
    return networks, losses.PPONetworkParams(policy=policy, value=value)


def test_the_layers_are_those_of_the_real_networks():
    _, params = networks_of(CONFIG)
    for shapes, tree in zip(layers(CONFIG), (params.policy, params.value), strict=True):
        kernels = [leaf.shape for leaf in jax.tree.leaves(tree) if leaf.ndim == 2]
        assert sorted(kernels) == sorted(shapes)


def test_by_hand():
    shapes = [(3, 4), (4, 2)]
    assert forward_flops(shapes) == 2 * (12 + 8)
    # Weights of both layers and inputs of the second, each as dear as the forward of its layer.
    assert gradient_flops(shapes) == 40 + 40 + 16


def test_a_step_is_one_forward_and_every_epoch_of_learning():
    actor, critic = layers(CONFIG)
    learning = gradient_flops(actor) + gradient_flops(critic) + forward_flops(critic) / CONFIG.unroll
    assert flops_per_step(CONFIG) == forward_flops(actor) + CONFIG.epochs * learning


def test_xla_counts_as_much_for_the_gradient_of_the_loss():
    networks, params = networks_of(CONFIG)
    width = observation_dim(EXPERT_TERMS)
    shape = lambda *last: jax.ShapeDtypeStruct((ROWS, CONFIG.unroll, *last), jnp.float32)  # noqa: E731
    rollout = Rollout(
        shape(width), shape(29), shape(29), *(shape() for _ in range(4)),
        jax.ShapeDtypeStruct((ROWS, width), jnp.float32),
    )  # fmt: skip
    std = jax.ShapeDtypeStruct((29,), jnp.float32)
    weights = Weights(CONFIG.gamma, CONFIG.gae_lambda, CONFIG.clip, CONFIG.entropy)

    def gradient(params, rollout, std):
        return jax.grad(lambda params: ppo_loss(params, rollout, std, networks, weights)[0])(params)

    compiled = jax.jit(gradient).lower(params, rollout, std).compile()
    counted = compiled.cost_analysis()["flops"]
    mine = loss_flops_per_step(CONFIG) * ROWS * CONFIG.unroll
    assert math.isfinite(counted)
    assert mine == pytest.approx(counted, rel=0.05)
