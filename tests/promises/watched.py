"""Put on PYTHONPATH as `sitecustomize`: every address that Python code connects to is written down, and refused if it is not allowed.

WATCHED_LOG names the file, WATCHED_ALLOWED the ports of 127.0.0.1 that may be reached, as a JSON list. The loop is Python's own here:
uvloop connects and resolves in C, which tells no audit hook.
"""

import ipaddress
import json
import os
import sys
from typing import Any

LOG = os.open(os.environ["WATCHED_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
ALLOWED = set(json.loads(os.environ["WATCHED_ALLOWED"]))
REACHING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
NAMING = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
STARTING = {"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"}
sys.modules["uvloop"] = None  # type: ignore[assignment]


def is_loopback(host: Any) -> bool:
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return host is None


def told(event: str, what: Any, *, allowed: bool) -> None:
    os.write(LOG, json.dumps({"event": event, "what": repr(what), "allowed": allowed}).encode() + b"\n")
    if not allowed:
        raise PermissionError(f"{event} {what!r} is not configured")


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in REACHING:
        address = arguments[1]
        if isinstance(address, tuple):  # of IP; a local socket has a path, and one that is connected needs no address
            told(event, address[:2], allowed=is_loopback(address[0]) and address[1] in ALLOWED)
    elif event in NAMING:
        host = arguments[0][0] if event == "socket.getnameinfo" else arguments[0]
        told(event, host, allowed=is_loopback(host))
    elif event in STARTING:
        told(event, arguments[0], allowed=False)


sys.addaudithook(hook)
os.write(LOG, b'{"event": "watched", "what": "", "allowed": true}\n')
