"""A tiny synchronous client for setting tests up: one request, one parsed answer, no retries, nothing hidden."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.controlplane.errors import ApiError

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_SECONDS = 30.0


def request(  # noqa: PLR0917 - read like the request line that they become
    server: str,
    context: ssl.SSLContext,
    method: str,
    path: str,
    body: object = None,
    content_type: str = "application/json",
    *,
    token: str | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Any:  # noqa: ANN401 - whatever JSON the API server answers
    """Return the parsed JSON, the text where it is none, of a watch the list of its events once it has ended.

    A body of bytes is sent as it is, anything else as JSON. ApiError for a status of 400 and more, OSError where no
    answer came.
    """
    payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Accept": "application/json"}
    if payload is not None:
        headers["Content-Type"] = content_type
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    address = urlsplit(server)
    connection = http.client.HTTPSConnection(
        address.hostname or "", address.port, timeout=timeout_seconds, context=context
    )
    try:
        connection.request(method, path, body=payload, headers=headers)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status >= http.HTTPStatus.BAD_REQUEST:
        raise ApiError(method, path, response.status, text)
    if "json" not in response.headers.get("Content-Type", ""):
        return text
    if "watch" in parse_qs(urlsplit(path).query):
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)


@dataclass(frozen=True, slots=True)
class AdminClient:
    """Requests as a user with every right, by client certificate."""

    url: str
    ca_file: Path
    certificate: Path
    key: Path
    timeout_seconds: float = TIMEOUT_SECONDS

    def request(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:  # noqa: ANN401 - see request
        """Return the parsed answer; ApiError carries the status of a refusal."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.load_cert_chain(self.certificate, self.key)
        return request(self.url, context, method, path, body, content_type, timeout_seconds=self.timeout_seconds)
