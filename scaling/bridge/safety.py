"""Who may move the motors: the state machine of the runtime."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """Damping is the first and the last."""

    DAMPING = "damping"
    RAMP = "ramp"
    STANDBY = "stand-by"
    TRACK = "track"


_NEXT = {State.DAMPING: State.RAMP, State.RAMP: State.STANDBY, State.STANDBY: State.TRACK}


class Transition(NamedTuple):
    """One change of state, when (s) and why."""

    time: float
    before: State
    after: State
    reason: str


@dataclass
class SafetyMachine:
    """damping -> ramp -> stand-by -> track -> damping; once it has returned to damping it stays there.

    A new start is a new machine, which only a person's command makes.
    """

    state: State = State.DAMPING
    ended: bool = False
    transitions: list[Transition] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def advance(self, now: float, reason: str) -> None:
        """To the next state on the way to tracking. Raises RuntimeError after the end or from tracking."""
        if self.ended or self.state not in _NEXT:
            raise RuntimeError(f"no way on from {self.state}{' after its end' if self.ended else ''}")
        self._move(now, _NEXT[self.state], reason)

    def stop(self, now: float, reason: str) -> None:
        """To damping for good, without a fault."""
        if not self.ended:
            self._move(now, State.DAMPING, reason)
            self.ended = True

    def fault(self, now: float, reason: str) -> None:
        """To damping for good, because of `reason`."""
        if not self.ended:
            self.faults.append(reason)
        self.stop(now, reason)

    def _move(self, now: float, after: State, reason: str) -> None:
        self.transitions.append(Transition(now, self.state, after, reason))
        self.state = after
