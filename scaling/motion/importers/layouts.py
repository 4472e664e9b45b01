"""Formats that name their arrays: root, rotation, joints, rate, and bodies where they have them; one layout each."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.motion.importers import evidence
from scaling.motion.importers.content import Content
from scaling.motion.importers.joint_order import JointOrder, order_by_limits, order_by_name, orders_of
from scaling.motion.importers.record import Given, Record, number, table, texts, timing
from scaling.motion.naming import Rate
from scaling.robot.g1 import BODY_NAMES


@dataclass(frozen=True)
class Layout:
    """Which names of a format hold what; a file is of the format if it has all of `needs` and none of `never`.

    The root is `root` and `quat`, or the pelvis among `bodies` and `body_quats` (by `body_names`, else the first), or
    the first seven columns of `qpos`. `quaternion` "" is told by the feet. `body_frame`: "world", or "pelvis" where
    bodies are given as seen from it.
    `joint_order`: the documented order where neither names nor bodies tell; None is refused then.
    `rate` "" is a format that holds none and documents `documented_rate`.
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
    documented_rate: Rate | None = None
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
        rate = self._rate(content, given)
        root, quat, joints = self._pose(values, where)
        named = self._named(values, joints.shape[1], where)
        seen: tuple[str, ...] = (rate.evidence,)
        notes: tuple[str, ...] = rate.notes
        convention = ""
        if self.bodies in values and values[self.bodies] is not None:
            order, convention, told, remarks = self._fit(root, quat, joints, values, named, given, where)
        elif named is not None:
            order, told = named[0], f"joints {named[0].name}: {self.joint_names} names them"
            remarks = order.unheeded(given.joint_order, "the joints' names say")
        else:
            order, told, remarks = order_by_limits(joints, self.joint_order, given.joint_order, where)
        seen, notes = (*seen, told), (*notes, *remarks, *order.notes())
        strangers = named[1] if named is not None else ()
        if strangers:
            notes = (*notes, f"{len(strangers)} joints that a G1 does not have were left out ({strangers[0]}, ...)")
        qpos = np.concatenate([root, quat, order.lift(joints)], axis=1)
        if not convention:
            convention, told, remarks = evidence.convention_of(qpos, rate.hz, self.quaternion, given.quaternion, where)
            seen, notes = (*seen, told), (*notes, *remarks)
        qpos = evidence.reorder(qpos, convention)
        return [Record(qpos, rate.hz, convention, order.name, seen, notes, joints=joints.shape[1])]

    def _rate(self, content: Content, given: Given) -> Rate:
        """What the file holds, else what the format documents."""
        if self.rate:
            own = number(content.value[self.rate], self.rate, str(content))
            return timing(content, given, (own, f"{self.rate} in the file"))
        return timing(content, given, documented=self.documented_rate)

    def _named(self, values: Any, count: int, where: str) -> tuple[JointOrder, tuple[str, ...]] | None:
        """The order that names tell, and the names of no joint; None where there are none."""
        if self.joint_names not in values:
            return None
        names = texts(values[self.joint_names])
        if len(names) != count:
            raise InputError(f"{where}: {len(names)} joint names for {count} columns; write the file again.")
        return order_by_name(names, where)

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
        values: Any,
        named: tuple[JointOrder, tuple[str, ...]] | None,
        given: Given,
        where: str,
    ) -> tuple[JointOrder, str, str, tuple[str, ...]]:
        """Order, convention ("" where bodies cannot prove it: seen from the pelvis), evidence and remarks."""
        places = self._places(values, where)
        if len(places) != len(joints):
            raise InputError(f"{where}: {len(places)} frames of bodies for {len(joints)} of joints; write it again.")
        orders = (named[0],) if named is not None else orders_of(joints.shape[1], where)
        in_world = self.body_frame == "world"
        if not in_world:
            root, quat = np.zeros_like(root), np.tile([1.0, 0.0, 0.0, 0.0], (len(root), 1))
        readings = list(product(orders, evidence.CONVENTIONS if in_world else ("wxyz",)))

        def asked(order: JointOrder, convention: str) -> bool:
            right = given.joint_order is None or named is not None or order.is_called(given.joint_order)
            return right and (not in_world or given.quaternion in (None, convention))

        found, words = evidence.by_bodies(root, quat, joints, places, readings, asked, where)
        remarks = found.order.unheeded(given.joint_order, "the bodies say")
        if not in_world:
            return found.order, "", words, remarks
        if found.quaternion not in (self.quaternion, given.quaternion):
            raise InputError(
                f"{where}: {self.name} stores quaternions as {self.quaternion}, but the bodies in this file say "
                f"{found.quaternion}; give --quaternion {found.quaternion} if that is right."
            )
        if given.quaternion not in (None, found.quaternion):
            remarks += (f"the bodies say {found.quaternion}: --quaternion is for files that cannot tell",)
        return found.order, found.quaternion, words, remarks


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
