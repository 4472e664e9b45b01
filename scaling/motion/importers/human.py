"""Human motion: recognised by content and refused with what it needs, until it has been retargeted."""

from scaling.errors import InputError
from scaling.motion.importers.content import Content
from scaling.motion.importers.record import Given, Record

_SMPL = frozenset({"poses", "trans"})


def kind(content: Content) -> str | None:
    """What kind of human motion or skeleton this is, in words; None for anything else."""
    if content.container == "text":
        head = content.value[:4096].lstrip("\ufeff \t\r\n")
        if head.startswith("HIERARCHY"):
            return "human motion in BVH"
        if head.startswith(("#!OML", ":FULLY-SPECIFIED")):
            return "human motion in AMC"
        if head.startswith((":version", "# AST/ASF")):
            return "a human skeleton in ASF (the motion is in its AMC files)"
    if content.keys >= _SMPL:
        return "human motion in SMPL"
    return None


def claims(content: Content) -> bool:
    """Any human motion or skeleton."""
    return kind(content) is not None


def read(content: Content, given: Given) -> list[Record]:
    """Never returns: a person's motion is not a robot's."""
    raise InputError(
        f"{content}: {kind(content)}, which is readable only once it is retargeted to the G1; do that first."
    )
