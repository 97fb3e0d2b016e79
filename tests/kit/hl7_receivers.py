"""Two receivers of HL7 v2 by other people: python-hl7, and hl7apy, which also validates."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import hl7
from hl7.mllp import start_hl7_server
from hl7apy.core import Message
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message

from tests.kit.clinic import free_port


@dataclass
class Receiver:
    """What came in, as text; `answer` is what is acknowledged, with a code of table 0357 or without."""

    port: int
    messages: list[str] = field(default_factory=list)
    connections: int = 0
    answer: tuple[str, str] = ("AA", "")


@contextlib.contextmanager
def python_hl7(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Acknowledges by python-hl7's own `create_ack`."""
    receiver = Receiver(free_port())
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()

    async def converse(reader: Any, writer: Any) -> None:
        receiver.connections += 1
        try:
            while True:
                message = await reader.readmessage()
                receiver.messages.append(str(message))
                acknowledgement = message.create_ack(receiver.answer[0], application="RIS")
                if receiver.answer[1]:
                    acknowledgement.append(hl7.parse(f"MSH|^~\\&|\rERR|||{receiver.answer[1]}|E\r")[1])
                writer.writemessage(acknowledgement)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def serve() -> None:
        server = await start_hl7_server(
            converse, host="127.0.0.1", port=receiver.port, encoding="utf-8", ssl=tls
        )
        started.set()
        await stop.wait()
        server.close()
        conversations = asyncio.all_tasks() - {asyncio.current_task()}
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(10)
    try:
        yield receiver
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@contextlib.contextmanager
def hl7apy() -> Iterator[Receiver]:
    """Parses and validates each message against the tables of HL7 2.5.1 before it acknowledges it."""
    receiver = Receiver(free_port())

    class Handler(AbstractHandler):  # type: ignore[misc]
        def reply(self) -> str:
            receiver.messages.append(self.incoming_message)
            message = parse_message(self.incoming_message)
            message.validate()
            answer = Message("ACK", version="2.5.1")
            answer.msa.msa_1, answer.msa.msa_2 = receiver.answer[0], message.msh.msh_10
            return str(answer.to_mllp())

    server = MLLPServer("127.0.0.1", receiver.port, {"MDM^T02^MDM_T02": (Handler,)}, timeout=30)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
