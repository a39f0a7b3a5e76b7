"""End all ranks of a run soon after the kill of a rank, on any machine, and name the killed rank."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import signal
import socket
import threading
import time
from contextlib import suppress

import torch.distributed as dist
from ignite.engine import Engine, Events

from ..failures import first_to_fail
from ..io.locks import free_all
from ..ranks import gather, note_loss, world_size
from .interruption import at_error

logger = logging.getLogger(__name__)

FINISHED, FAILED = b"0", b"1"  # said by a rank before it ends
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # seconds, seconds, tries
CONNECTS = 20.0  # seconds to connect
AFTER_FAILURE = 30.0  # seconds to end after a rank's error or interruption, e.g. to save the state
BEFORE_SIGNAL = 3.0  # seconds in which torchrun sends SIGTERM, if the killed rank was on the same machine
AFTER_SIGNAL = 15.0  # seconds for Python to end. Waiting for a GPU, Python does not notice signals


class WatchRanks:
    """End this rank soon after the early end of a rank. Place last in the list of handlers.

    torchrun ends the ranks of one machine. Ranks elsewhere would continue until they need the killed rank, and
    NCCL would then wait for 10 minutes. Therefore rank r keeps a TCP connection to rank r + 1, the last rank to rank 0.
    The system closes the connection of a killed process at once. Machines without power or network are noticed after a
    minute.

    A message names rank, process, machine and remedy. Then this process gets SIGTERM, and ends after 18 seconds at the
    latest. Ranks report their end by an error or by Ctrl-C. The watching rank then has 30 seconds more, and no message.

    A single process watches nothing. Without a connection, a rank is not watched, with a warning.

    Args:
        remedy: how to continue, for the message.

    Example, in a configuration::

        handlers:
        - _target_: scripts.handlers.WatchRanks
          remedy: --skip_finished true
    """

    def __init__(self, remedy: str) -> None:
        self.remedy = remedy
        self._ended = b""  # how this rank ended
        self._token = b""  # of the run, unknown to strangers
        self._door: socket.socket | None = None  # for the connection of the watching rank

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or evaluator."""
        if world_size() > 1:
            engine.add_event_handler(Events.STARTED, self._begin)
            engine.add_event_handler(Events.COMPLETED, lambda _: self._leave(FINISHED))
            at_error(engine, lambda *_: self._leave(FAILED))

    def _begin(self, _: Engine) -> None:
        rank, host = dist.get_rank(), socket.gethostname()
        self._ended, self._door = b"", socket.create_server((_own_address(), 0))
        atexit.register(self._leave, FAILED)
        name = f"rank {rank} (process {os.getpid()} on {host})"
        ranks = gather((name, self._door.getsockname(), secrets.token_bytes(16)))
        self._token = ranks[0][2]
        name, address = ranks[(rank + 1) % len(ranks)][:2]
        try:
            connection = socket.create_connection(address, timeout=CONNECTS)
        except OSError as error:
            reason = error.strerror or error
            logger.warning("%s is not watched: no connection to %s:%s (%s)", name, *address, reason)
            return
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            if hasattr(socket, option):  # named differently on macOS and Windows
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        connection.sendall(self._token)
        threading.Thread(target=self._watch, args=(name, connection), name="watching a rank", daemon=True).start()

    def _leave(self, word: bytes) -> None:
        """Tell the watching rank how this rank ends. The connection has waited in the system."""
        self._ended = word
        door, self._door = self._door, None
        if door is None:
            return
        atexit.unregister(self._leave)
        with suppress(OSError), door:
            door.settimeout(1)
            while True:
                connection, _ = door.accept()
                with suppress(OSError), connection:
                    connection.settimeout(1)
                    if connection.recv(len(self._token)) == self._token:
                        connection.sendall(word)
                        return

    def _watch(self, name: str, connection: socket.socket) -> None:
        word = b""
        with suppress(OSError), connection:
            word = connection.recv(1)
        if FINISHED in (word, self._ended):
            return
        if word == FAILED:
            time.sleep(AFTER_FAILURE)
        else:
            note_loss()
            if first_to_fail():
                logger.error("%s was killed, or cannot be reached. All ranks end. Go on with %s", name, self.remedy)
        time.sleep(BEFORE_SIGNAL)
        if not self._ended:
            note_loss()
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(AFTER_SIGNAL)
        free_all()
        os._exit(1)


def _own_address() -> str:
    """Find the address of this machine in the network of the run."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((os.environ.get("MASTER_ADDR", "localhost"), 9))  # sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
