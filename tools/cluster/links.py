"""Connections that can be cut: each link is a port that passes on to another one, until it is told not to.

A link that *hangs* keeps its connections and passes nothing on, as a network does that loses everything; one that is
*refused* closes them, and every new one. They run in a process of their own, so that nothing else slows them down.
"""

import asyncio
import multiprocessing
import signal
import socket

HANG, REFUSE, MEND = "hang", "refuse", "mend"
CHUNK = 1 << 16
ANSWER_SECONDS = 10


class Links:
    """All links, by name."""

    def __init__(self):
        self.sockets = {}
        self.targets = {}
        self.process = None
        self.control = None

    def add(self, name, target):
        """Adds a link to a port, before they are started, and returns the port that leads there."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        self.sockets[name] = listener
        self.targets[name] = target
        return listener.getsockname()[1]

    def start(self):
        self.control, there = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=serve, args=(self.sockets, self.targets, there), daemon=True)
        self.process.start()
        there.close()
        for listener in self.sockets.values():
            listener.close()

    def set(self, names, state):
        """Brings these links into a state; returns when they are in it."""
        self.control.send((list(names), state))
        if not self.control.poll(ANSWER_SECONDS):
            raise TimeoutError("the links do not answer")
        self.control.recv()

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.join(ANSWER_SECONDS)


class Link:
    def __init__(self, target):
        self.target = target
        self.flows = asyncio.Event()
        self.flows.set()
        self.refuses = False
        self.writers = set()

    async def accept(self, reader, writer):
        if self.refuses:
            writer.transport.abort()
            return
        self.writers.add(writer)
        upstream = None
        try:
            await self.flows.wait()
            there, upstream = await asyncio.open_connection("127.0.0.1", self.target)
            self.writers.add(upstream)
            one = asyncio.ensure_future(self.relay(reader, upstream))
            other = asyncio.ensure_future(self.relay(there, writer))
            await asyncio.wait([one, other], return_when=asyncio.FIRST_COMPLETED)
            one.cancel()
            other.cancel()
        except OSError:
            pass
        finally:
            for side in filter(None, (writer, upstream)):
                self.writers.discard(side)
                side.transport.abort()

    async def relay(self, reader, writer):
        try:
            while data := await reader.read(CHUNK):
                await self.flows.wait()
                writer.write(data)
                await writer.drain()
            # What has ended on the other side of a cut is not known on this one.
            await self.flows.wait()
        except OSError:
            await self.flows.wait()

    def set(self, state):
        self.refuses = state == REFUSE
        if state == HANG:
            self.flows.clear()
            return
        if state == REFUSE:
            for writer in list(self.writers):
                writer.transport.abort()
        self.flows.set()


def serve(sockets, targets, control):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve_all(sockets, targets, control))


async def serve_all(sockets, targets, control):
    links = {name: Link(target) for name, target in targets.items()}
    for name, listener in sockets.items():
        await asyncio.start_server(links[name].accept, sock=listener, backlog=256)
    loop = asyncio.get_running_loop()
    while True:
        try:
            names, state = await loop.run_in_executor(None, control.recv)
        except EOFError:
            return
        for name in names:
            links[name].set(state)
        control.send(True)
