"""FLOPs of PPO's networks per control step: what the learner owes at best, whatever the physics costs."""

from itertools import pairwise

from scaling.contract.observation import EXPERT_TERMS, observation_dim
from scaling.experts.ppo import PPOConfig
from scaling.robot.g1 import NUM_JOINTS


def layers(config: PPOConfig) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(inputs, outputs) of the actor's and of the critic's dense layers, first to last."""
    width = observation_dim(EXPERT_TERMS)
    return list(pairwise((width, *config.hidden, NUM_JOINTS))), list(pairwise((width, *config.value_hidden, 1)))


def forward_flops(shapes: list[tuple[int, int]]) -> int:
    """2 i o a layer for one row: a multiplication and an addition a weight."""
    return sum(2 * inputs * outputs for inputs, outputs in shapes)


def gradient_flops(shapes: list[tuple[int, int]]) -> int:
    """Forward, backward to the weights, and backward to the inputs of every layer but the first: 3 F - 2 i0 o0."""
    return 3 * forward_flops(shapes) - forward_flops(shapes[:1])


def loss_flops_per_step(config: PPOConfig) -> float:
    """One pass of the loss's gradient, per control step of the batch.

    G(actor) + G(critic) + F(critic) / unroll: the critic's bootstrap value is one row an environment, without gradient.
    """
    actor, critic = layers(config)
    return gradient_flops(actor) + gradient_flops(critic) + forward_flops(critic) / config.unroll


def flops_per_step(config: PPOConfig) -> float:
    """F(actor) + epochs (G(actor) + G(critic) + F(critic) / unroll): acting once, then learning from it.

    F: `forward_flops`, G: `gradient_flops`. Elementwise work and the optimiser are left out: a bound from below.
    """
    return forward_flops(layers(config)[0]) + config.epochs * loss_flops_per_step(config)
