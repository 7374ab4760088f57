"""One window per user: a second start hands its files to the first one and ends."""

import enum
import getpass
import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec
from PySide6.QtCore import QDeadlineTimer, QLockFile, QObject, QThread, Signal, Slot
from PySide6.QtNetwork import QLocalServer, QLocalSocket

log = logging.getLogger(__name__)

TIMEOUT_MS = 2000
"""The first instance answers from its event loop, which is never held up for so long."""
PATIENCE_MS = 30_000
"""It may just have been started too, and not listen yet; or it is ending, which takes seconds."""
MOST_UNANSWERED = 2
"""One that listens and answers no more often than so has stopped working."""
_RETRY_MS = 50
MAX_MESSAGE_BYTES = 1 << 20
_ANSWER = b"ok\n"


def server_name(home: Path) -> str:
    """Name of the local socket: one per user and data folder."""
    key = f"{getpass.getuser()}\0{home.absolute()}"
    return f"headroom-{hashlib.sha256(key.encode()).hexdigest()[:20]}"


class Start(enum.Enum):
    """What becomes of a start.

    Attributes:
        FIRST: It is the one instance.
        HANDED_OVER: Another one has taken its files.
        NO_ANSWER: Another one lives, but does not answer.
    """

    FIRST = enum.auto()
    HANDED_OVER = enum.auto()
    NO_ANSWER = enum.auto()


class _Answer(enum.Enum):
    """What came of telling the other instance."""

    TAKEN = enum.auto()
    NONE = enum.auto()
    NOBODY = enum.auto()


class SingleInstance(QObject):
    """Listens on a local socket only this user can open; nothing goes over a network.

    Signals:
        opened(object): tuple of str: files a second start was given. Comes also without any.
    """

    opened = Signal(object)

    def __init__(self, name: str, lock_file: Path, parent: QObject | None = None) -> None:
        """Prepare; nobody knows of it before `claim`.

        Args:
            name: Of the socket, see `server_name`.
            lock_file: Held while the instance lives: two starts at once cannot both be the first.
            parent: Owner.
        """
        super().__init__(parent)
        self._name = name
        self._lock_file = lock_file
        self._lock = QLockFile(str(lock_file))
        # It is held for hours; one whose process is gone is taken over all the same.
        self._lock.setStaleLockTime(0)
        self._server: QLocalServer | None = None
        self._received: dict[QLocalSocket, bytearray] = {}

    def claim(self) -> bool:
        """Be the one instance, and listen.

        Returns:
            False when another one lives.
        """
        try:
            self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            log.warning("no single instance: %s", error)
            return True
        if not self._lock.tryLock(0):
            if self._lock.error() == QLockFile.LockError.LockFailedError:
                return False
            log.warning("no single instance: %s cannot be written", self._lock_file)
            return True
        # The socket's file of an instance that crashed.
        QLocalServer.removeServer(self._name)
        server = QLocalServer(self)
        server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        if not server.listen(self._name):
            log.warning("no single instance: %s", server.errorString())
            return True
        server.newConnection.connect(self._on_connection)
        self._server = server
        return True

    def claim_or_hand_over(self, files: Iterable[str], *, patience_ms: int = PATIENCE_MS) -> Start:
        """Be the one instance, or give files to the one that lives; this blocks until it is clear.

        One that is ending answers no more, and is waited for.
        """
        message = msgspec.json.encode(tuple(files)) + b"\n"
        deadline = QDeadlineTimer(patience_ms)
        unanswered = 0
        while True:
            if self.claim():
                return Start.FIRST
            answer = self._tell(message)
            if answer is _Answer.TAKEN:
                return Start.HANDED_OVER
            unanswered += answer is _Answer.NONE
            if unanswered >= MOST_UNANSWERED or deadline.hasExpired():
                return Start.NO_ANSWER
            pause()

    @Slot()
    def stop_listening(self) -> None:
        """Take no more files, but stay the one instance; may be called twice."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for socket in tuple(self._received):
            socket.abort()
        self._received.clear()

    def close(self) -> None:
        """Let another be the one instance; may be called twice."""
        self.stop_listening()
        self._lock.unlock()

    def _tell(self, message: bytes) -> _Answer:
        socket = QLocalSocket()
        socket.connectToServer(self._name)
        if not socket.waitForConnected(TIMEOUT_MS):
            return _Answer.NOBODY
        socket.write(message)
        socket.flush()
        answer = b""
        while not answer.endswith(b"\n") and socket.waitForReadyRead(TIMEOUT_MS):
            answer += bytes(socket.readAll().data())
        if answer == _ANSWER:
            socket.disconnectFromServer()
            return _Answer.TAKEN
        # Cut off, it has begun to end; held on to in silence, it hangs.
        is_silent = socket.state() == QLocalSocket.LocalSocketState.ConnectedState
        socket.abort()
        return _Answer.NONE if is_silent else _Answer.NOBODY

    @Slot()
    def _on_connection(self) -> None:
        while self._server is not None and (socket := self._server.nextPendingConnection()):
            self._received[socket] = bytearray()
            socket.readyRead.connect(self._on_ready_read)
            socket.disconnected.connect(self._on_disconnected)
            self._read(socket)

    @Slot()
    def _on_ready_read(self) -> None:
        for socket in tuple(self._received):
            self._read(socket)

    @Slot()
    def _on_disconnected(self) -> None:
        for socket in tuple(self._received):
            if socket.state() == QLocalSocket.LocalSocketState.UnconnectedState:
                del self._received[socket]
                socket.deleteLater()

    def _read(self, socket: QLocalSocket) -> None:
        received = self._received[socket]
        received += bytes(socket.readAll().data())
        if len(received) > MAX_MESSAGE_BYTES:
            socket.abort()
            return
        if not received.endswith(b"\n"):
            return
        try:
            files = msgspec.json.decode(bytes(received), type=tuple[str, ...])
        except msgspec.DecodeError as error:
            log.warning("a second start could not be understood: %s", error)
            socket.abort()
            return
        received.clear()
        socket.write(_ANSWER)
        socket.flush()
        self.opened.emit(files)


def pause() -> None:
    """Between two tries; a function of its own so that tests need not wait."""
    QThread.msleep(_RETRY_MS)
