"""A bare socket: lines there and back, one thread. What a call costs without any library; the machine's own speed."""

from __future__ import annotations

import socket
import threading

from benchmarks.contestants.client import Call, CannotDo, Client, Ready

_REQUEST = b"add(3, 4)\n"


def serve(_variant: str, ready: Ready) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ready(f"127.0.0.1:{listener.getsockname()[1]}")
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                while line := connection.recv(4096):
                    connection.sendall(line)


class SocketClient(Client):
    def __init__(self, variant: str, address: str) -> None:
        super().__init__(variant, address)
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def caller(self) -> Call:
        if threading.current_thread() is not threading.main_thread():
            raise CannotDo("threads that share a socket")
        connection = self.socket

        def call() -> object:
            connection.sendall(_REQUEST)
            return connection.recv(4096)

        return call


CLIENT = SocketClient
