"""The guard lets nothing out of the machine, and everything stay inside."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GUARD = Path(__file__).resolve().parents[1] / "tools" / "offline"

INSIDE = """
import socket
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "localhost")):
    server = socket.create_server((host, 0), family=family)
    client = socket.create_connection(server.getsockname(), timeout=5)
    peer, _ = server.accept()
    client.sendall(b"hello")
    assert peer.recv(5) == b"hello"
    for each in (client, peer, server):
        each.close()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
assert udp.sendto(b"x", udp.getsockname()) == 1
assert udp.sendto(b"x", 0, udp.getsockname()) == 1
udp.close()
one, two = socket.socketpair()  # Unix
one.sendall(b"x")
assert two.recv(1) == b"x"
one.close()
two.close()
assert socket.getaddrinfo("localhost", 80)
assert socket.getaddrinfo(None, 80)
print("inside works")
"""

REMOTE = {
    "connect": "socket.socket().connect(('192.0.2.1', 80))",
    "connect_ex": "socket.socket().connect_ex(('192.0.2.1', 80))",
    "sixth version": "socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))",
    "sendto": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))",
    "sendto with flags": (
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', 0, ('192.0.2.1', 9))"
    ),
    "sendmsg": (
        "socket.socket(type=socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, ('192.0.2.1', 9))"
    ),
    "by name": "socket.socket().connect(('example.org', 80))",
    "getaddrinfo": "socket.getaddrinfo('example.org', 80)",
    "getaddrinfo by keyword": "socket.getaddrinfo(host='example.org', port=80)",
    "gethostbyname": "socket.gethostbyname('example.org')",
    "create_connection": "socket.create_connection(('192.0.2.1', 80), timeout=2)",
    "urllib": "import urllib.request as u; u.urlopen('http://192.0.2.1', timeout=2)",
    "asyncio": (
        "import asyncio; asyncio.run(asyncio.open_connection('192.0.2.1', 80))"
    ),
    "a child process": (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', "
        "\"import socket; socket.getaddrinfo('example.org', 80)\"], check=True)"
    ),
}


def run(code, switched_on="1"):
    environment = {
        **os.environ,
        "PYTHONPATH": str(GUARD),
        "BIGLEARN_OFFLINE": switched_on,
    }
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_loopback_and_unix_sockets_work():
    done = run(INSIDE)
    assert done.stdout == "inside works\n", done.stderr


@pytest.mark.parametrize("way", REMOTE)
def test_every_way_out_is_refused(way):
    done = run(f"import socket; {REMOTE[way]}")
    assert done.returncode == 1
    assert "The network is switched off" in done.stderr


def test_the_refusal_is_a_connection_error():
    code = (
        "import socket\n"
        "try:\n    socket.getaddrinfo('example.org', 80)\n"
        "except ConnectionError as error:\n    print(error)"
    )
    assert "'example.org' was refused" in run(code).stdout


def test_switched_off_it_changes_nothing():
    code = "import socket; print(socket.getaddrinfo.__module__)"
    assert run(code, switched_on="0").stdout == "socket\n"
