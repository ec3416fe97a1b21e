"""On a process's path, refuses it and its children every connection and name, and writes down each attempt and each file written.

Lines go to the file that ``GUARD_LOG`` names: what was tried, a tab, and where.
"""

import errno
import os
import sys

LOG = os.open(os.environ["GUARD_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
NETWORK = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _write_down(what: str, where: object) -> None:
    os.write(LOG, f"{what}\t{where}\n".encode(errors="replace"))


def _watch(event: str, arguments: tuple) -> None:
    if event in NETWORK:
        # Sockets between processes of one machine have a path for an address.
        if not isinstance(arguments[-1], str | bytes) or event != "socket.connect":
            _write_down(event, arguments)
            raise OSError(errno.ENETUNREACH, f"{event} is refused")
        return
    named = bool(arguments) and isinstance(arguments[0], str | bytes | os.PathLike)
    if named and (event == "os.mkdir" or (event == "open" and arguments[2] & WRITES)):
        _write_down("write", os.path.realpath(os.fsdecode(arguments[0])))


sys.addaudithook(_watch)
