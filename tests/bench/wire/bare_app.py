"""The floor: a loop of ``send`` calls. It opens websockets just far enough to have somebody to send to."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import selectors
import socket

import click

from tests.bench.wire import event

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_OPEN = {"sid": "bare", "upgrades": [], "pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 1000000}
_ACCEPT = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)


def greet(client: socket.socket) -> bool:
    """One client after the other: those who wait do not mind. False if it went again."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        data = client.recv(4096)
        if not data:
            return False
        request += data
    key = next(line[19:] for line in request.splitlines() if line.startswith(b"Sec-WebSocket-Key: "))
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
    client.sendall(f"{_ACCEPT}{accept}\r\n\r\n".encode() + event.frame(b"0" + json.dumps(_OPEN).encode()))
    client.recv(4096)
    client.sendall(event.frame(b'40{"sid":"bare"}'))
    return True


def emit(clients: list[socket.socket], line: bytes) -> None:
    first, count, text = line.decode().rstrip("\n").split(" ", 2)
    numbers = range(int(first), int(first) + int(count))
    data = b"".join(event.frame(event.packet(number, text)) for number in numbers)
    for client in clients:
        client.send(data)


@click.command()
@click.option("--host", required=True)
@click.option("--port", required=True, type=int)
def main(host: str, port: int) -> None:
    listener = socket.create_server((host, port), backlog=1024)
    door = socket.socket(socket.AF_UNIX)
    door.bind(os.environ["WIRE_DOOR"])
    door.listen()
    clients: list[socket.socket] = []
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(door, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                client = listener.accept()[0]
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if greet(client):
                    clients.append(client)
            elif key.fileobj is door:
                selector.register(door.accept()[0], selectors.EVENT_READ)
            else:
                command = key.fileobj
                assert isinstance(command, socket.socket)
                if line := command.recv(4096):
                    emit(clients, line)
                else:
                    selector.unregister(command)


if __name__ == "__main__":
    main()
