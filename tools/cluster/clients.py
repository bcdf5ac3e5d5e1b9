"""Requests over HTTP and over NATS, each by one connection that is made again when it breaks."""

import http.client
import json
import random
import socket

NO_ANSWER = (OSError, http.client.HTTPException, ValueError)


class Answer:
    """The answer to a request; `status` is 0 where nobody answered."""

    def __init__(self, status, headers=None, body=None):
        self.status = status
        self.headers = headers or {}
        self.body = body if isinstance(body, dict) else {}


class Http:
    """A client of one replica's gateway."""

    def __init__(self, port, token=None):
        self.port = port
        self.token = token
        self.connection = None

    def command(self, aggregate, id, command, fields, key, seconds):
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        return self.request("POST", f"/commands/{aggregate}/{id}/{command}", headers, json.dumps(fields), seconds)

    def document(self, view, id, position, seconds):
        return self.request("GET", f"/views/{view}/{id}", {"Headwater-Min-Position": position}, None, seconds)

    def request(self, method, path, headers, body, seconds):
        if self.token:
            headers = headers | {"Authorization": f"Bearer {self.token}"}
        try:
            # A replica that leaves closes a connection after its answer.
            if self.connection is None or self.connection.sock is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
                self.connection.connect()
            self.connection.sock.settimeout(seconds)
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()},
                          json.loads(answer.read() or b"{}"))
        except NO_ANSWER:
            self.close()
            return Answer(0)

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Nats:
    """A client that asks one server, and goes on to another one when that is gone."""

    def __init__(self, ports):
        self.ports = list(ports)
        random.shuffle(self.ports)
        self.socket = None
        self.inbox = f"_INBOX.{random.getrandbits(96):x}"
        self.number = 0

    def command(self, aggregate, id, command, fields, key, seconds):
        headers = f"Idempotency-Key: {key}\r\n" if key else ""
        return self.request(f"cmd.{aggregate}.{id}.{command}", headers, json.dumps(fields).encode(), seconds)

    def request(self, subject, headers, body, seconds):
        try:
            if self.socket is None:
                self.connect(seconds)
            self.number += 1
            self.socket.settimeout(seconds)
            reply = f"{self.inbox}.{self.number}"
            head = f"NATS/1.0\r\n{headers}\r\n".encode()
            self.send(f"HPUB {subject} {reply} {len(head)} {len(head) + len(body)}\r\n".encode() + head + body + b"\r\n")
            return self.answer(reply)
        except NO_ANSWER:
            self.close()
            return Answer(0)

    def connect(self, seconds):
        self.ports.append(self.ports.pop(0))
        self.socket = socket.create_connection(("127.0.0.1", self.ports[0]), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.socket.makefile("rb")
        self.line()
        options = {"verbose": False, "headers": True, "no_responders": True, "lang": "python", "version": "0"}
        self.send(f"CONNECT {json.dumps(options)}\r\nSUB {self.inbox}.* 1\r\n".encode())

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        line = self.input.readline()
        if not line:
            raise OSError("the server has closed the connection")
        return line.decode().split()

    def answer(self, reply):
        while True:
            words = self.line()
            if words[0] == "PING":
                self.send(b"PONG\r\n")
            elif words[0] == "-ERR":
                raise OSError(" ".join(words))
            elif words[0] in ("MSG", "HMSG"):
                data = self.input.read(int(words[-1]) + 2)[:-2]
                head = int(words[-2]) if words[0] == "HMSG" else 0
                # An answer that comes after it was given up is none to this request.
                if words[1] == reply:
                    return read(data[:head].decode(), data[head:])

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def read(head, body):
    """The answer to a command. One that is refused says by which status in its headers."""
    lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    no_responders = lines[0].split()[1:2] == ["503"]
    status = 503 if no_responders else int(headers.get("nats-service-error-code", 200))
    return Answer(status, headers, json.loads(body or b"{}"))
