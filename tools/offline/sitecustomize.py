"""A start-up guard: with this folder on PYTHONPATH, no socket leaves the machine.

Python imports `sitecustomize` before anything else, so a kernel started with
`PYTHONPATH=tools/offline BIGLEARN_OFFLINE=1` cannot reach the network even through a
library. Loopback and Unix sockets, which Jupyter itself needs, stay open.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any


class OfflineError(ConnectionError):
    """An attempt to reach the network while it is switched off."""


def _is_local(host: Any) -> bool:
    """Whether a host, a name or an address, is this machine."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(host).split("%")[0])
    except ValueError:
        return False  # a name: looking it up would already ask the network
    return address.is_loopback or address.is_unspecified


def _refuse_remote(host: Any) -> None:
    if not _is_local(host):
        raise OfflineError(
            f"The network is switched off (BIGLEARN_OFFLINE=1): {host!r} was refused, "
            "only this machine can be reached. Run with --online if a chapter needs it."
        )


def _guard_method(name: str) -> None:
    """Make a method of sockets check the address, its last argument."""
    original = getattr(socket.socket, name)

    def guarded(self: socket.socket, *args: Any) -> Any:
        internet = self.family in (socket.AF_INET, socket.AF_INET6)
        if internet and args and isinstance(args[-1], tuple):
            _refuse_remote(args[-1][0])
        return original(self, *args)

    setattr(socket.socket, name, guarded)


def _guard_lookup(name: str) -> None:
    """Make a function that looks up names check what it is asked."""
    original = getattr(socket, name)

    def guarded(host: Any, *args: Any, **options: Any) -> Any:
        _refuse_remote(host)
        return original(host, *args, **options)

    setattr(socket, name, guarded)


if os.environ.get("BIGLEARN_OFFLINE") == "1":
    for method in ("connect", "connect_ex", "sendto", "sendmsg"):
        _guard_method(method)
    for lookup in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        _guard_lookup(lookup)
