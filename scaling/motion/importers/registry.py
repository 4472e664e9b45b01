"""Which importer reads a file: the first whose format the content has."""

from collections.abc import Callable
from dataclasses import dataclass

from scaling.errors import InputError
from scaling.motion.importers import asap, bones_seed, csv36, human, loco_mujoco, wbc_fsm
from scaling.motion.importers.content import Content
from scaling.motion.importers.layouts import LAYOUTS
from scaling.motion.importers.record import Given, Record


@dataclass(frozen=True)
class Importer:
    """A format: its name, how it is recognised, and how it is read."""

    name: str
    claims: Callable[[Content], bool]
    read: Callable[[Content, Given], list[Record]]


IMPORTERS: tuple[Importer, ...] = (
    Importer("bvh", human.claims_bvh, human.read_bvh_file),
    Importer("amc", human.claims_amc, human.read_amc_file),
    Importer("asf", human.claims_asf, human.read_skeleton),
    Importer("smpl", human.claims_smpl, human.read_smpl_file),
    Importer("motion-x", human.claims_smplx_array, human.read_array_file),
    Importer("motionmillion", human.claims_headed_array, human.read_array_file),
    *(Importer(layout.name, layout.claims, layout.read) for layout in LAYOUTS),
    Importer(loco_mujoco.NAME, loco_mujoco.claims, loco_mujoco.read),
    Importer(loco_mujoco.OLD_NAME, loco_mujoco.claims_old, loco_mujoco.read_old),
    Importer(asap.NAME, asap.claims, asap.read),
    Importer(wbc_fsm.NAME, wbc_fsm.claims, wbc_fsm.read),
    Importer(bones_seed.NAME, bones_seed.claims, bones_seed.read),
    Importer(csv36.NAME, csv36.claims, csv36.read),
)

READABLE = "CSV (36 columns, or BONES-SEED), this project's .npz, and " + ", ".join(
    dict.fromkeys(one.name for one in IMPORTERS if one.name not in ("asf", csv36.NAME, bones_seed.NAME))
)


def choose(content: Content) -> Importer:
    """The importer of a file; a content that no format has is an `InputError` that says what was seen."""
    found = next((one for one in IMPORTERS if one.claims(content)), None)
    if found is not None:
        return found
    keys = sorted(content.keys)
    seen = f"keys {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}" if keys else "no named arrays"
    if content.container == "text":
        raise InputError(f"{content}: a text file that is not a table of numbers; readable are {READABLE}.")
    if content.container == "npy":
        seen = "a bare NumPy array" if not keys else seen
    raise InputError(f"{content}: a {content.container} of no known format ({seen}); readable are {READABLE}.")
