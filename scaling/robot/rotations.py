"""Quaternion algebra (wxyz, unit, body to world) for NumPy and JAX arrays alike; leading axes broadcast."""

from typing import Any

from jaxtyping import Float

Array = Any


def namespace(x: Array) -> Any:
    """The array module (`numpy` or `jax.numpy`) that `x` belongs to."""
    return x.__array_namespace__()


def quat_mul(a: Float[Array, "*b 4"], b: Float[Array, "*b 4"]) -> Float[Array, "*b 4"]:
    """Hamilton product: the rotation `b` followed by `a`."""
    xp = namespace(a)
    aw, ax, ay, az = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bw, bx, by, bz = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    return xp.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def quat_conj(q: Float[Array, "*b 4"]) -> Float[Array, "*b 4"]:
    """The inverse rotation of a unit quaternion."""
    xp = namespace(q)
    return xp.concatenate([q[..., :1], -q[..., 1:]], axis=-1)


def cross(a: Float[Array, "*b 3"], b: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    """Vector product over the last axis."""
    xp = namespace(a)
    a0, a1, a2 = a[..., 0], a[..., 1], a[..., 2]
    b0, b1, b2 = b[..., 0], b[..., 1], b[..., 2]
    return xp.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=-1)


def rotate(q: Float[Array, "*b 4"], v: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    """`v` of the body frame expressed in the world frame."""
    u = q[..., 1:]
    t = 2.0 * cross(u, v)
    return v + q[..., :1] * t + cross(u, t)


def rotate_inverse(q: Float[Array, "*b 4"], v: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    """`v` of the world frame expressed in the body frame."""
    return rotate(quat_conj(q), v)


def normalise(q: Float[Array, "*b 4"]) -> Float[Array, "*b 4"]:
    """`q` scaled to unit length."""
    xp = namespace(q)
    return q / xp.sqrt(xp.sum(q * q, axis=-1, keepdims=True))


def rotation_vector(q: Float[Array, "*b 4"]) -> Float[Array, "*b 3"]:
    """Axis times angle (rad, the short way round) of a unit quaternion; differentiable at the identity."""
    xp = namespace(q)
    sign = xp.where(q[..., :1] < 0, -1.0, 1.0)
    w, v = sign * q[..., :1], sign * q[..., 1:]
    squared = xp.sum(v * v, axis=-1, keepdims=True)
    small = squared < 1e-14
    sine = xp.sqrt(xp.where(small, 1.0, squared))
    scale = xp.where(small, 2.0, 2.0 * xp.arctan2(sine, w) / sine)
    return scale * v


def from_rotation_vector(v: Float[Array, "*b 3"]) -> Float[Array, "*b 4"]:
    """The unit quaternion of a rotation vector (rad)."""
    xp = namespace(v)
    squared = xp.sum(v * v, axis=-1, keepdims=True)
    small = squared < 1e-14
    angle = xp.sqrt(xp.where(small, 1.0, squared))
    scale = xp.where(small, 0.5, xp.sin(0.5 * angle) / angle)
    w = xp.where(small, 1.0, xp.cos(0.5 * angle))
    return xp.concatenate([w, scale * v], axis=-1)


def angle_between(a: Float[Array, "*b 4"], b: Float[Array, "*b 4"]) -> Float[Array, "*b"]:
    """Angle (rad, 0 to pi) of the rotation from `a` to `b`."""
    xp = namespace(a)
    v = rotation_vector(quat_mul(quat_conj(a), b))
    return xp.sqrt(xp.sum(v * v, axis=-1))


def yaw(q: Float[Array, "*b 4"]) -> Float[Array, "*b"]:
    """Heading (rad) of the body's x axis about the world's vertical."""
    xp = namespace(q)
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    return xp.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def yaw_quat(q: Float[Array, "*b 4"]) -> Float[Array, "*b 4"]:
    """The heading alone of `q`, as a rotation about the world's vertical."""
    xp = namespace(q)
    half = 0.5 * yaw(q)
    zero = xp.zeros_like(half)
    return xp.stack([xp.cos(half), zero, zero, xp.sin(half)], axis=-1)


def matrix(q: Float[Array, "*b 4"]) -> Float[Array, "*b 3 3"]:
    """Rotation matrix whose columns are the body's axes in the world frame."""
    xp = namespace(q)
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)


def slerp(a: Float[Array, "*b 4"], b: Float[Array, "*b 4"], t: Float[Array, "*b"]) -> Float[Array, "*b 4"]:
    """The rotation a fraction `t` of the short way from `a` to `b`."""
    step = rotation_vector(quat_mul(quat_conj(a), b))
    return normalise(quat_mul(a, from_rotation_vector(step * t[..., None])))
