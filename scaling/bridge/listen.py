"""Where a stream of motion comes in: UDP, WebSocket or ZeroMQ, each in a thread beside the control loop."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from scaling.bridge.motion_message import MOST_FRAMES, MotionMessage, pack_message
from scaling.bridge.stream import StreamReference
from scaling.errors import InputError
from scaling.motion.clip import Motion
from scaling.record.files import jsonable

SCHEMES = ("udp", "ws", "zmq")
_LARGEST = 1 << 20  # bytes of one message, JSON included
_QUIET = 1.0  # s after which another sender may take over


class Address(NamedTuple):
    """`udp://HOST:PORT` and `ws://HOST:PORT` are listened on, `zmq://HOST:PORT` is a publisher to subscribe to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def read_address(text: str) -> Address:
    """The address in a text; raises InputError for anything else."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.scheme not in SCHEMES or parts.path not in ("", "/"):
        raise InputError(f"{text!r} is no stream: give udp://HOST:PORT, ws://HOST:PORT or zmq://HOST:PORT")
    return Address(parts.scheme, host, port)


@contextlib.contextmanager
def listening(address: Address, stream: StreamReference) -> Iterator[None]:
    """Hand every message that comes to `stream`. Raises InputError where the address cannot be used."""
    over = threading.Event()
    starter = {"udp": _udp, "ws": _websocket, "zmq": _zeromq}[address.scheme]
    try:
        run, end = starter(address, stream, over)
    except OSError as error:
        raise InputError(f"{address} cannot be listened on ({error.strerror or error}): name another port") from None
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        end()
        thread.join(timeout=2.0)


class _Turn:
    """One sender at a time: the first whose motion is taken, until it has been quiet for a second."""

    def __init__(self, stream: StreamReference) -> None:
        self._stream, self._lock = stream, threading.Lock()
        self._sender: Any = None
        self._heard = 0.0

    def take(self, data: bytes | str, sender: Any) -> str | None:
        """As `StreamReference.take`."""
        with self._lock:
            now = time.monotonic()
            if self._sender not in (None, sender) and now - self._heard < _QUIET:
                return "another sender is followed"
            error = self._stream.take(data)
            if error is None:
                self._sender, self._heard = sender, now
            return error


_Parts = tuple[Callable[[], None], Callable[[], None]]


def _udp(address: Address, stream: StreamReference, over: threading.Event) -> _Parts:
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        link.bind((address.host, address.port))
    except OSError:
        link.close()
        raise
    link.settimeout(0.1)

    turn = _Turn(stream)

    def run() -> None:
        while not over.is_set():
            try:
                data, source = link.recvfrom(_LARGEST)
            except TimeoutError:
                continue
            except OSError:
                return
            turn.take(data, source)

    return run, link.close


def _websocket(address: Address, stream: StreamReference, over: threading.Event) -> _Parts:
    """A server; each message, binary or text, is answered by how the stream is, as JSON, with `error` where it was
    none."""
    try:
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.server import ServerConnection, serve
    except ImportError:
        raise InputError("ws:// needs the package websockets: install it with pip install 'scaling[stream]'") from None

    turn = _Turn(stream)

    def talk(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for data in connection:
                error = turn.take(data, connection.id)
                connection.send(json.dumps(jsonable({**stream.report(), "error": error})))

    server = serve(talk, address.host, address.port, max_size=_LARGEST, compression=None)
    return server.serve_forever, server.shutdown


def _zeromq(address: Address, stream: StreamReference, over: threading.Event) -> _Parts:
    """A subscriber to everything that a publisher says."""
    try:
        import zmq
    except ImportError:
        raise InputError("zmq:// needs the package pyzmq: install it with pip install 'scaling[zmq]'") from None

    def run() -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as link:
            link.setsockopt(zmq.SUBSCRIBE, b"")
            link.setsockopt(zmq.LINGER, 0)
            link.connect(f"tcp://{address.host}:{address.port}")
            while not over.is_set():
                if link.poll(100):
                    stream.take(link.recv())

    return run, lambda: None


def wait_for(stream: StreamReference, address: Address, seconds: float) -> None:
    """Return when a first pose has come. Raises InputError after `seconds`."""
    until = time.monotonic() + seconds
    while not stream.ready:
        if time.monotonic() > until:
            wrong = f" (the last message was refused: {stream.last_error})" if stream.last_error else ""
            raise InputError(f"no motion has come to {address} in {seconds:.0f} s{wrong}: start its sender first")
        time.sleep(0.01)


def send_clip(motion: Motion, address: Address, *, ahead: float = 0.0, repeat: bool = False) -> dict[str, Any]:
    """Send a clip as it plays: each frame at its time, together with the `ahead` seconds that follow it.

    Its first pose is sent until two seconds have passed, so that a bridge may start meanwhile. Returns how much went.
    """
    beyond = min(max(round(ahead * motion.rate_hz), 0), MOST_FRAMES - 1)
    began, sequence, lead = time.monotonic(), 0, round(2.0 * motion.rate_hz)
    with _sender(address) as send, contextlib.suppress(KeyboardInterrupt):
        while repeat or sequence < motion.frames + lead:
            frame = max(sequence - lead, 0)
            frame = frame % motion.frames if repeat else frame
            due = sequence / motion.rate_hz
            time.sleep(max(began + due - time.monotonic(), 0.0))
            qpos = motion.qpos[frame : frame + 1 + (beyond if sequence >= lead else 0)]
            send(pack_message(MotionMessage(sequence, motion.rate_hz, due, time.monotonic() - began, qpos)))
            sequence += 1
    return {"messages": sequence, "seconds": time.monotonic() - began, "to": str(address)}


@contextlib.contextmanager
def _sender(address: Address) -> Iterator[Callable[[bytes], Any]]:
    """How a message goes to an address. Raises InputError where nobody is there, or who was there has gone."""
    if address.scheme == "udp":
        try:
            target = socket.getaddrinfo(address.host, address.port, socket.AF_INET, socket.SOCK_DGRAM)[0][4]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
                yield lambda data: link.sendto(data, target)
        except OSError as error:
            raise InputError(f"{address} cannot be sent to ({error.strerror or error}): name another host") from None
        return
    if address.scheme != "ws":
        raise InputError(f"{address}: a clip is sent over udp:// or ws://")
    try:
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect
    except ImportError:
        raise InputError("ws:// needs the package websockets: install it with pip install 'scaling[stream]'") from None
    try:
        with connect(str(address), compression=None) as client:

            def send(data: bytes) -> None:
                client.send(data)
                client.recv()

            yield send
    except ConnectionClosed:
        raise InputError(f"{address} has closed the connection: see how the bridge ended") from None
    except OSError as error:
        raise InputError(f"{address} does not answer ({error.strerror or error}): start the bridge first") from None
