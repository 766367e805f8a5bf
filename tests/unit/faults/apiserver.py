"""The upstream for tests of the proxy itself: a TLS server with the manners of an API server, and its certificates."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PODS = "/api/v1/namespaces/garden/pods"


@dataclass(frozen=True, slots=True)
class Trust:
    """A throw-away self-signed certificate for 127.0.0.1, its own authority."""

    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context


def issue(directory: Path) -> Trust:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "throw-away")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(minutes=5))
    builder = builder.not_valid_after(now + dt.timedelta(hours=6))
    # What VERIFY_X509_STRICT asks of an authority; it is the default from Python 3.13 on.
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(
        x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        ),
        critical=True,
    )
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
    )
    certificate = builder.sign(key, hashes.SHA256())
    trust = Trust(directory / "tls.crt", directory / "tls.key")
    trust.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    trust.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return trust


def pod(name: str) -> dict[str, object]:
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "resourceVersion": "7"},
        "spec": {"containers": []},
    }


class ApiServer:
    """Lists, creates, echoes and watches; `events` goes to the watches, `created` says what really happened."""

    def __init__(self) -> None:
        self.created: list[str] = []
        self.seen_headers: list[dict[str, str]] = []
        self.connections: set[object] = set()
        self.url = ""
        self._watchers: set[asyncio.Queue[bytes]] = set()

    @property
    def watchers(self) -> int:
        return len(self._watchers)

    def emit(self, kind: str, name: str) -> bytes:
        return self.emit_line(json.dumps({"type": kind, "object": pod(name)}, separators=(",", ":")).encode() + b"\n")

    def emit_line(self, line: bytes) -> bytes:
        for watcher in self._watchers:
            watcher.put_nowait(line)
        return line

    async def list_or_watch(self, request: web.Request) -> web.StreamResponse:
        self.connections.add(request.transport)
        self.seen_headers.append(dict(request.headers))
        if request.query.get("watch") != "true":
            return web.json_response({"kind": "PodList", "items": [pod(name) for name in self.created]})
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        events: asyncio.Queue[bytes] = asyncio.Queue()
        self._watchers.add(events)
        try:
            await response.prepare(request)
            while line := await events.get():
                await response.write(line)
        finally:
            self._watchers.discard(events)
        return response

    async def create(self, request: web.Request) -> web.Response:
        self.connections.add(request.transport)
        body = await request.json()
        if "dryRun" not in request.query:
            self.created.append(body["metadata"]["name"])
        return web.json_response(body, status=201)

    async def delete(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    async def large(self, _: web.Request) -> web.Response:
        return web.Response(body=b"0123456789" * 200_000)

    @contextlib.asynccontextmanager
    async def serving(self, trust: Trust) -> AsyncIterator[ApiServer]:
        app = web.Application()
        app.router.add_get(PODS, self.list_or_watch)
        app.router.add_post(PODS, self.create)
        app.router.add_delete(PODS + "/{name}", self.delete)
        app.router.add_get("/large", self.large)
        runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust.server_context())
        await site.start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self.emit_line(b"")
            await runner.cleanup()
