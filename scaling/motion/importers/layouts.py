"""Formats that name their arrays: root, rotation, joints, rate, and bodies where they have them; one layout each."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.motion.importers import evidence
from scaling.motion.importers.content import Content
from scaling.motion.importers.joint_order import JointOrder, order_by_name, orders_of
from scaling.motion.importers.record import Given, Record, number, table, texts, timing
from scaling.robot.g1 import BODY_NAMES


@dataclass(frozen=True)
class Layout:
    """Which names of a format hold what; a file is of the format if it has all of `needs` and none of `never`.

    The root is `root` and `quat`, or the pelvis among `bodies` and `body_quats` (by `body_names`, else the first), or
    the first seven columns of `qpos`. `quaternion` "" is told by the feet. `body_frame`: "world", or "pelvis" where
    bodies are given as seen from it.
    `joint_order`: the documented order where neither names nor bodies tell; None is refused then.
    """

    name: str
    needs: frozenset[str]
    rate: str
    quaternion: str
    joints: str = ""
    root: str = ""
    quat: str = ""
    qpos: str = ""
    bodies: str = ""
    body_quats: str = ""
    body_frame: str = "world"
    joint_names: str = ""
    body_names: str = ""
    joint_order: str | None = None
    never: frozenset[str] = frozenset()

    def claims(self, content: Content) -> bool:
        """Whether a file has this layout."""
        if not self.needs <= content.keys or self.never & content.keys:
            return False
        named = self.qpos and self.joint_names in content.keys
        return not named or np.shape(content.value[self.qpos])[-1:] == (7 + np.size(content.value[self.joint_names]),)

    def read(self, content: Content, given: Given) -> list[Record]:
        """The one clip of a file."""
        values, where = content.value, str(content)
        rate = timing(content, given, (number(values[self.rate], self.rate, where), f"{self.rate} in the file"))
        root, quat, joints = self._pose(values, where)
        bodies = values.get(self.bodies)
        names = texts(values[self.joint_names]) if self.joint_names in values else None
        seen: tuple[str, ...] = (rate.evidence,)
        strangers: tuple[str, ...] = ()
        orders: tuple[JointOrder, ...]
        if names is not None:
            if len(names) != joints.shape[1]:
                raise InputError(
                    f"{where}: {len(names)} joint names for {joints.shape[1]} columns; write the file again."
                )
            order, strangers = order_by_name(names, where)
            orders = (order,)
            seen = (*seen, f"{self.joint_names} names the joints")
        else:
            orders = orders_of(joints.shape[1], where, given.joint_order)
        if bodies is not None:
            order, fit = self._fit(root, quat, joints, self._places(values, where), orders, given, where)
            seen = (*seen, fit)
        elif names is None:
            order = self._documented(orders, joints.shape[1], where)
            seen = (*seen, f"{joints.shape[1]} joints {order.name}: the format documents it")
        qpos = np.concatenate([root, quat, order.lift(joints)], axis=1)
        convention = given.quaternion or self.quaternion
        if given.quaternion is not None:
            seen = (*seen, f"{convention}: given by the caller")
        elif not convention:
            convention, words = evidence.detect(qpos, rate.hz, where)
            seen = (*seen, words)
        elif bodies is None or self.body_frame == "pelvis":
            seen = (*seen, evidence.confirm(qpos, rate.hz, convention, where))
        notes = order.notes()
        if strangers:
            notes = (*notes, f"{len(strangers)} joints that a G1 does not have were left out ({strangers[0]}, ...)")
        qpos = evidence.reorder(qpos, convention)
        return [Record(qpos, rate.hz, convention, order.name, seen, notes, joints=joints.shape[1])]

    def _pose(self, values: Any, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Root (m), root quaternion in the file's convention, and joints (rad) in the file's order."""
        if self.qpos:
            qpos = table(values[self.qpos], self.qpos, None, where)
            if qpos.shape[1] < 8:
                raise InputError(f"{where}: {self.qpos} has {qpos.shape[1]} columns, too few for a robot; check it.")
            return qpos[:, :3], qpos[:, 3:7], qpos[:, 7:]
        joints = table(values[self.joints], self.joints, None, where)
        if self.root:
            root, quat = table(values[self.root], self.root, 3, where), table(values[self.quat], self.quat, 4, where)
        else:
            names = texts(values[self.body_names]) if self.body_names in values else ["pelvis"]
            if "pelvis" not in names:
                raise InputError(f"{where}: no body is named pelvis, so the root is unknown; export it with its root.")
            pelvis = names.index("pelvis")
            root = table(values[self.bodies], self.bodies, 3, where, 3)[:, pelvis]
            quat = table(values[self.body_quats], self.body_quats, 4, where, 3)[:, pelvis]
        if not len(root) == len(quat) == len(joints):
            raise InputError(
                f"{where}: {len(root)} root positions, {len(quat)} rotations and {len(joints)} joint rows; "
                "they must be as many, so write the file again."
            )
        return root, quat, joints

    def _places(self, values: Any, where: str) -> np.ndarray:
        """Positions (m) of the file's bodies; where they are named, of those that the G1 here has too."""
        places = table(values[self.bodies], self.bodies, 3, where, 3)
        names = texts(values[self.body_names]) if self.body_names in values else []
        known = [column for column, name in enumerate(names) if name in BODY_NAMES]
        return places[:, known] if len(names) == places.shape[1] and known else places

    def _fit(
        self,
        root: np.ndarray,
        quat: np.ndarray,
        joints: np.ndarray,
        places: np.ndarray,
        orders: tuple[JointOrder, ...],
        given: Given,
        where: str,
    ) -> tuple[JointOrder, str]:
        """The joint order that the bodies prove; in the world's frame they prove the quaternion's as well."""
        if len(places) != len(joints):
            raise InputError(f"{where}: {len(places)} frames of bodies for {len(joints)} of joints; write it again.")
        conventions = (given.quaternion,) if given.quaternion else evidence.CONVENTIONS
        if self.body_frame == "pelvis":
            root, quat = np.zeros_like(root), np.tile([1.0, 0.0, 0.0, 0.0], (len(root), 1))
            conventions = ("wxyz",)
        found, words = evidence.by_bodies(root, quat, joints, places, list(product(orders, conventions)), where)
        if self.body_frame == "world" and not given.quaternion and found.quaternion != self.quaternion:
            raise InputError(
                f"{where}: {self.name} stores quaternions as {self.quaternion}, but the bodies in this file say "
                f"{found.quaternion}; give quaternion='{found.quaternion}' if that is right."
            )
        return found.order, words

    def _documented(self, orders: tuple[JointOrder, ...], count: int, where: str) -> JointOrder:
        """The only order left, or the documented one of as many joints."""
        if len(orders) == 1:
            return orders[0]
        named = [order for order in orders if order.name == self.joint_order]
        if not named:
            raise InputError(
                f"{where}: in which order are its {count} joints? It has neither names nor bodies that tell "
                f"({', '.join(order.name for order in orders)}), so give the joints' names or joint_order."
            )
        return named[0]


_TRACKED = frozenset({"fps", "joint_pos", "body_pos_w", "body_quat_w"})

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "holosoma",
        _TRACKED | {"joint_names", "body_names"},
        rate="fps",
        quaternion="wxyz",
        qpos="joint_pos",
        bodies="body_pos_w",
        joint_names="joint_names",
        body_names="body_names",
    ),
    Layout(
        "beyondmimic",
        _TRACKED,
        rate="fps",
        quaternion="wxyz",
        joints="joint_pos",
        bodies="body_pos_w",
        body_quats="body_quat_w",
        joint_names="joint_names",
        body_names="body_names",
    ),
    Layout(
        "isaaclab",
        frozenset({"fps", "dof_names", "body_names", "dof_positions", "body_positions", "body_rotations"}),
        rate="fps",
        quaternion="wxyz",
        joints="dof_positions",
        bodies="body_positions",
        body_quats="body_rotations",
        joint_names="dof_names",
        body_names="body_names",
    ),
    Layout(
        "protomotions",
        frozenset({"fps", "dof_pos", "rigid_body_pos", "rigid_body_rot"}),
        rate="fps",
        quaternion="xyzw",
        joints="dof_pos",
        bodies="rigid_body_pos",
        body_quats="rigid_body_rot",
    ),
    Layout(
        "gmr",
        frozenset({"fps", "root_pos", "root_rot", "dof_pos"}),
        rate="fps",
        quaternion="xyzw",
        root="root_pos",
        quat="root_rot",
        joints="dof_pos",
        bodies="local_body_pos",
        body_frame="pelvis",
        joint_order="mjcf",
    ),
    Layout(
        "phuma",
        frozenset({"fps", "root_trans", "root_ori", "dof_pos"}),
        rate="fps",
        quaternion="xyzw",
        root="root_trans",
        quat="root_ori",
        joints="dof_pos",
        joint_order="mjcf",
    ),
    Layout(
        "humanoid-gpt",
        frozenset({"frequency", "qpos"}),
        rate="frequency",
        quaternion="wxyz",
        qpos="qpos",
        joint_order="mjcf",
        never=frozenset({"split_points", "jnt_type"}),
    ),
    Layout(
        "humanoid-gpt",
        frozenset({"frequency", "root_pos", "root_rot", "dof_pos"}),
        rate="frequency",
        quaternion="",
        root="root_pos",
        quat="root_rot",
        joints="dof_pos",
        joint_order="mjcf",
        never=frozenset({"qpos"}),
    ),
)
