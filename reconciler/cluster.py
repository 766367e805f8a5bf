"""The API server: get, follow, apply, replace, delete. The only module that imports kubernetes.

Objects are JSON as the API server sends it, never the client's models: a field of a newer Kubernetes survives. Each
call is one request; what may be tried again, and when, is `backoff`'s business. Failures leave here as our errors.
"""

import asyncio
import math
import os
import re
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeGuard, TypeVar, cast

import aiohttp
import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config
from kubernetes.aio.config.kube_config import load_kube_config_from_dict
from yarl import URL

from reconciler import bounded_json
from reconciler.backoff import Backoff
from reconciler.errors import (
    ConflictError,
    ForbiddenError,
    InvalidConfigurationError,
    ReconcilerError,
    RejectedError,
    UnavailableError,
)
from reconciler.kube import kubeconfig as kubeconfigs
from reconciler.kube.failures import told
from reconciler.kube.login import Login
from reconciler.kube.proxies import SOCKS, proxy_for
from reconciler.kube.server_clock import ServerClock
from reconciler.registration.identity import FIELD_MANAGER, Manifest

# The API server sends a bookmark about once a minute: a watch that is silent for longer than this is dead.
WATCH_SILENCE_SECONDS: Final = 90.0
# The API server ends a watch after this long; it is taken up again where it stopped, without a list.
WATCH_TIMEOUT_SECONDS: Final = 1800
# Matches no object: an apply that carries it creates what is absent and is refused where something stands (409).
_ABSENT_RESOURCE_VERSION: Final = "1"
_APPLY = "application/apply-patch+yaml"
_JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"
# Objects of a list that are asked for at once: a few MB of pods.
_PAGE = 200
_LISTED: Final = "LISTED"
_WORDS: Final = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "continue")
_JSON = "application/json"
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_CLIENT_CERTIFICATE: Final = "client-certificate-data"


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the API as URLs and RBAC rules name it."""

    group: str
    version: str
    plural: str

    def path(self, *, namespace: str | None = None, name: str | None = None) -> str:
        """Return the URL path of the collection, or of the object `name`."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{scope}/{self.plural}" + (f"/{name}" if name else "")


MUTATING_WEBHOOK_CONFIGURATIONS: Final = Resource("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations")
SECRETS: Final = Resource("", "v1", "secrets")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments")
PODS: Final = Resource("", "v1", "pods")
NAMESPACES: Final = Resource("", "v1", "namespaces")
SERVICES: Final = Resource("", "v1", "services")
ENDPOINT_SLICES: Final = Resource("discovery.k8s.io", "v1", "endpointslices")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")
CLUSTER_ROLES: Final = Resource("rbac.authorization.k8s.io", "v1", "clusterroles")
EVENTS: Final = Resource("events.k8s.io", "v1", "events")


@dataclass(frozen=True, slots=True)
class Target:
    """One object by name: what every call is about, and what an error names."""

    resource: Resource
    name: str
    namespace: str | None = None

    def __str__(self) -> str:
        return f"{self.resource.plural}{f'/{self.name}' if self.name else ''}" + (
            f" in namespace {self.namespace}" if self.namespace else ""
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """The objects of one namespace (None: of all) that have these labels, as `key=value,...`; empty: all of them."""

    resource: Resource
    namespace: str | None = None
    labels: str = ""

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.resource.plural}{where}" + (f" with {self.labels}" if self.labels else "")


@dataclass(frozen=True, slots=True)
class Attempt:
    """How the API server answered a dry-run: status, its message where it refuses, its warnings, else the object."""

    status: int
    message: str = ""
    warnings: tuple[str, ...] = ()
    returned: Manifest | None = None


@dataclass(frozen=True, slots=True)
class _Change:
    """What a watch tells: `kind` is _LISTED with all objects, or ADDED, MODIFIED or DELETED with one."""

    kind: str
    objects: tuple[Manifest, ...]


class Page(Protocol):
    """What is kept of one page of a list."""

    @property
    def following(self) -> str:
        """Where the next page begins; empty: there is none."""


_P = TypeVar("_P", bound=Page)


class Cluster:
    """A connection to one API server. Use it as an async context manager; it closes its sockets at the end."""

    def __init__(
        self,
        *,
        kubeconfig: Path | None = None,
        context: str | None = None,
        request_timeout_seconds: float = 15.0,
        watch_silence_seconds: float = WATCH_SILENCE_SECONDS,
        backoff: Backoff | None = None,
        login_timeout_seconds: float | None = None,
        may_ask_a_person: bool = False,
    ) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._timeout = aiohttp.ClientTimeout(total=request_timeout_seconds)
        self._watch_timeout = aiohttp.ClientTimeout(
            total=None,
            connect=request_timeout_seconds,
            sock_connect=request_timeout_seconds,
            sock_read=watch_silence_seconds,
        )
        self._backoff = backoff or Backoff()
        # How long a credential plugin may take; with `may_ask_a_person` it gets the terminal.
        self._login_timeout_seconds = login_timeout_seconds or request_timeout_seconds
        self._may_ask_a_person = may_ask_a_person
        self._login: Login | None = None  # None: not entered yet, or with the pod's own ServiceAccount
        self._place = ""
        # To compress pages of pods costs the API server more than it saves, except on a long way.
        self._encoding = "gzip"
        self.clock = ServerClock()
        self._connecting = asyncio.Lock()
        self._client: ApiClient | None = None
        # Asked before each write but those of a lease: who is not the leader any more raises there.
        self.fence: Callable[[], None] = lambda: None
        # A watch outlives the renewal of credentials: its connection is closed when it ends, not under it, since
        # aiohttp leaves a reader of a closed session waiting.
        self._watches: Counter[ApiClient] = Counter()

    async def __aenter__(self) -> Self:
        self._choose()
        # A plugin is asked by the first request: it may take long, or fail, as a request may.
        if self._login is None or self._login.plugin is None:
            await self._connected()
        return self

    @property
    def place(self) -> str:
        """Which API server this is, for messages: its URL and the context, or the pod's own."""
        return self._place

    async def __aexit__(self, *_: object) -> None:
        if self._login is not None:
            await self._login.close()
        await self._disconnect()

    @property
    def trouble(self) -> str:
        """Why there are no credentials for requests now; empty where there are."""
        return "" if self._login is None else self._login.trouble

    async def get(self, target: Target) -> Manifest | None:
        """Return the object, None where there is none."""
        status, body = await self._request("GET", target)
        return None if status == 404 else body  # noqa: PLR2004 - HTTP

    async def serves(self, resource: Resource) -> bool:
        """Return whether the API server has `resource`; every identity may ask its discovery."""
        target = Target(Resource(resource.group, resource.version, ""), "")
        try:
            response = await self._send("GET", target, collection=True, timeout=self._timeout)
            async with response:
                text = await response.read()
        except (aiohttp.ClientError, ConfigException, OSError) as error:  # TimeoutError is an OSError
            raise UnavailableError(f"discover {resource.plural}.{resource.group}: {self._told(error)}") from error
        if response.status == 404:  # noqa: PLR2004 - HTTP
            return False
        if response.status >= 400:  # noqa: PLR2004 - HTTP
            raise _failure(response, text, "get", target, self._identity)
        try:
            return any(one["name"] == resource.plural for one in bounded_json.loads(text)["resources"])
        except (ValueError, KeyError, TypeError) as error:
            raise UnavailableError(
                f"discover {resource.plural}.{resource.group}: expected an APIResourceList, got {text[:80]!r}"
            ) from error

    async def create(self, target: Target, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Apply `manifest` where no such object stands; ConflictError where one appeared since it was looked for."""
        return await self._apply(target, manifest, {"resourceVersion": _ABSENT_RESOURCE_VERSION}, dry_run=dry_run)

    async def attempt(self, target: Target, manifest: Manifest, *, timeout_seconds: float) -> Attempt:
        """Return how the API server answers the creation of `manifest` as a dry-run, refusals included.

        UnavailableError where it does not answer; ForbiddenError where our identity may not create such objects.
        """
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        try:
            response = await self._send(
                "POST", target, query={"dryRun": "All"}, body=manifest, collection=True, timeout=timeout
            )
            async with response:
                text = await response.read()
        except TimeoutError as error:
            raise UnavailableError(
                f"create {target}: no answer from {self._place} within {timeout_seconds:g} s"
            ) from error
        except (aiohttp.ClientError, ConfigException, OSError) as error:
            raise UnavailableError(f"create {target}: {self._told(error)}") from error
        warnings = tuple(_unquoted(line) for line in response.headers.getall("Warning", ()))
        if response.status in (401, 429) or (response.status == 403 and _is_rbac(text)):  # noqa: PLR2004 - HTTP
            if response.status == 401:  # noqa: PLR2004 - HTTP
                await self._refused()
            raise _failure(response, text, "create", target, self._identity)
        if response.status >= 400:  # noqa: PLR2004 - HTTP
            return Attempt(response.status, _message(response, text), warnings)
        try:
            returned = bounded_json.loads(text)
        except ValueError:
            returned = None
        if not _is_object(returned):
            raise UnavailableError(f"create {target}: expected an object from the API server, got {text[:80]!r}")
        return Attempt(response.status, "", warnings, returned)

    async def apply(self, target: Target, manifest: Manifest, *, observed: Manifest, dry_run: bool = False) -> Manifest:
        """Apply `manifest` onto exactly the `observed` object; ConflictError where it changed, went or was replaced."""
        return await self._apply(target, manifest, _precondition(observed), dry_run=dry_run)

    async def _apply(self, target: Target, manifest: Manifest, precondition: Manifest, *, dry_run: bool) -> Manifest:
        body = {**manifest, "metadata": {**manifest["metadata"], **precondition}}
        query = {"fieldManager": FIELD_MANAGER, "force": "true", **_dry_run(dry_run=dry_run)}
        _, applied = await self._request("PATCH", target, query=query, body=body, content_type=_APPLY)
        return applied

    async def post(self, target: Target, manifest: Manifest) -> Manifest:
        """Create `manifest` as it is; ConflictError where one stands."""
        _, created = await self._request(
            "POST", target, query={"fieldManager": FIELD_MANAGER}, body=manifest, collection=True
        )
        return created

    async def merge(self, target: Target, patch: Manifest, *, observed: Manifest | None = None) -> Manifest:
        """Merge `patch` into the object, into exactly the `observed` one where that is given; null removes a field."""
        precondition = {} if observed is None else _precondition(observed)
        body = {**patch, "metadata": {**(patch.get("metadata") or {}), **precondition}}
        _, merged = await self._request(
            "PATCH", target, query={"fieldManager": FIELD_MANAGER}, body=body, content_type=_MERGE_PATCH
        )
        return merged

    async def select(self, selection: Selection) -> AsyncGenerator[Manifest, None]:
        """Yield every object of `selection` without managedFields, page by page.

        UnavailableError where a list expires on the way.
        """
        target = Target(selection.resource, "", selection.namespace)
        query = {"limit": str(_PAGE), **({"labelSelector": selection.labels} if selection.labels else {})}
        while True:
            _, page = await self._request("GET", target, query=query, collection=True)
            for item in _items(page, target):
                item["metadata"].pop("managedFields", None)  # see loads_quickly: they may be too deep to walk through
                yield item
            if not (following := page["metadata"].get("continue")):
                return
            query["continue"] = str(following)

    async def pages(self, selection: Selection, read: Callable[[bytes], _P]) -> AsyncGenerator[_P, None]:
        """Yield each page of `selection` as `read` returns it from its JSON; ValueError there means that it is no list.

        The next page is asked for before this one is looked at: the API server works meanwhile. UnavailableError where
        a list expires on the way.
        """
        coming: asyncio.Task[_P] | None = asyncio.create_task(self._page(selection, read, ""))
        try:
            while coming is not None:
                page = await coming
                coming = asyncio.create_task(self._page(selection, read, page.following)) if page.following else None
                # A task begins when its maker waits: the request is to be on its way before the page is looked at.
                await asyncio.sleep(0)
                yield page
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def _page(self, selection: Selection, read: Callable[[bytes], _P], following: str) -> _P:
        target = Target(selection.resource, "", selection.namespace)
        query = {"limit": str(_PAGE)}
        query |= {"labelSelector": selection.labels} if selection.labels else {}
        query |= {"continue": following} if following else {}
        _, text = await self._answer("GET", target, query=query, collection=True)
        try:
            return read(text)
        except ValueError as error:
            raise UnavailableError(f"list {target}: expected a list from the API server, got {text[:80]!r}") from error

    async def replace_webhooks(
        self, target: Target, manifest: Manifest, *, observed: Manifest, dry_run: bool = False
    ) -> Manifest:
        """Make the list `webhooks` of exactly the `observed` object that of `manifest`, others' additions removed."""
        patch = [
            {"op": "replace", "path": f"/metadata/{field}", "value": value}
            for field, value in _precondition(observed).items()
        ]
        patch.append({"op": "add", "path": "/webhooks", "value": manifest["webhooks"]})
        query = {"fieldManager": FIELD_MANAGER, **_dry_run(dry_run=dry_run)}
        _, replaced = await self._request("PATCH", target, query=query, body=patch, content_type=_JSON_PATCH)
        return replaced

    async def delete(self, target: Target, *, observed: Manifest, dry_run: bool = False) -> None:
        """Delete exactly the `observed` object; it is no error if it is gone, ConflictError where it changed."""
        body: dict[str, Any] = {"preconditions": _precondition(observed)}
        if dry_run:
            body["dryRun"] = ["All"]
        await self._request("DELETE", target, body=body)

    async def follow(self, target: Target) -> AsyncGenerator[Manifest | ReconcilerError | None, None]:
        """Yield the object as it stands (None: absent), first at once and then after each change, for ever.

        A watch that ends is taken up where it stopped; one that breaks, expires (410), carries a line that is too long
        or falls silent is begun anew by a list, after a wait that grows. Each failure is yielded as an error.
        """
        async with aclosing(self._changes(target, {"fieldSelector": f"metadata.name={target.name}"})) as changes:
            async for change in changes:
                if isinstance(change, ReconcilerError):
                    yield change
                elif change.kind == _LISTED:
                    yield change.objects[0] if change.objects else None
                else:
                    yield None if change.kind == "DELETED" else change.objects[0]

    async def follow_all(self, selection: Selection) -> AsyncGenerator[dict[str, Manifest] | ReconcilerError, None]:
        """Yield the objects of `selection` by name, first at once and then after each change, for ever, as `follow`."""
        target = Target(selection.resource, "", selection.namespace)
        objects: dict[str, Manifest] = {}
        async with aclosing(self._changes(target, {"labelSelector": selection.labels})) as changes:
            async for change in changes:
                if isinstance(change, ReconcilerError):
                    yield change
                    continue
                if change.kind == _LISTED:
                    objects = {}
                for one in change.objects:
                    name = one["metadata"]["name"]
                    if change.kind == "DELETED":
                        objects.pop(name, None)
                    else:
                        objects[name] = one
                yield dict(objects)

    async def _changes(
        self, target: Target, selector: Mapping[str, str]
    ) -> AsyncGenerator[_Change | ReconcilerError, None]:
        """Yield the list of what `selector` selects and then each change, for ever; the rules are those of `follow`."""
        version = ""
        failures = 0
        while True:
            try:
                if not version:
                    objects, version = await self._list(target, selector)
                    yield _Change(_LISTED, objects)
                async with aclosing(self._watch(target, selector, version)) as events:
                    async for kind, changed in events:
                        failures = 0
                        version = changed["metadata"]["resourceVersion"]
                        if kind != "BOOKMARK":
                            yield _Change(kind, (changed,))
                # A server that closes watches at once must not be answered by a busy loop.
                failures += 1
                if failures > 1:
                    await asyncio.sleep(self._backoff.delay(failures - 1))
            except ReconcilerError as error:
                version = ""
                failures += 1
                yield error
                asked = error.retry_after_seconds if isinstance(error, UnavailableError) else 0.0
                patient = self._backoff.patience(failures) if isinstance(error, ForbiddenError) else 0.0
                await asyncio.sleep(max(asked, patient, self._backoff.delay(failures)))

    async def _list(self, target: Target, selector: Mapping[str, str]) -> tuple[tuple[Manifest, ...], str]:
        _, listed = await self._request("GET", target, query=selector, collection=True)
        resource_version = str(listed["metadata"].get("resourceVersion") or "")
        # Items of a list carry no apiVersion and kind.
        return tuple({"apiVersion": _api_version(target), **item} for item in _items(listed, target)), resource_version

    async def _watch(
        self, target: Target, selector: Mapping[str, str], version: str
    ) -> AsyncGenerator[tuple[str, Manifest], None]:
        """Yield (type, object) of each event after `version` until the API server ends the watch."""
        query = {
            **selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_TIMEOUT_SECONDS),
        }
        client = await self._connected()
        self._watches[client] += 1
        try:
            response = await self._send(
                "GET", target, query=query, collection=True, timeout=self._watch_timeout, client=client
            )
            async with response:
                if response.status != 200:  # noqa: PLR2004 - HTTP
                    raise _failure(response, await response.read(), "watch", target, self._identity)
                while line := await response.content.readline():
                    yield _event(line, target)
        except TimeoutError as error:
            raise UnavailableError(f"watch of {target}: silent for {self._watch_timeout.sock_read:g} s") from error
        except (
            aiohttp.ClientError,
            aiohttp.http.HttpProcessingError,
            ConfigException,
            OSError,
            ValueError,
        ) as error:
            raise UnavailableError(f"watch of {target}: {self._told(error)}") from error
        finally:
            self._watches[client] -= 1
            if client is not self._client:
                await self._close_unless_watching(client)

    async def _request(
        self,
        method: str,
        target: Target,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = _JSON,
        collection: bool = False,
    ) -> tuple[int, Manifest]:
        """Return status (200, 201 or 404) and body of one request; any other answer is raised as our error."""
        verb = _verb(method, collection=collection)
        status, text = await self._answer(
            method, target, query=query, body=body, content_type=content_type, collection=collection
        )
        try:
            # A page of pods is large; of a list that is watched, as of one object, managedFields are looked through.
            body = (bounded_json.loads_quickly if query and "limit" in query else bounded_json.loads)(text)
        except ValueError as error:
            raise UnavailableError(f"{verb} {target}: expected JSON from the API server, got {text[:80]!r}") from error
        named = verb in ("get", "patch", "create") and status != 404  # noqa: PLR2004 - HTTP
        if not _is_object(body) or (named and "uid" not in body["metadata"]):
            raise UnavailableError(f"{verb} {target}: expected an object from the API server, got {text[:80]!r}")
        return status, body

    async def _answer(
        self,
        method: str,
        target: Target,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = _JSON,
        collection: bool = False,
    ) -> tuple[int, bytes]:
        """Return status (200, 201 or 404) and text of one answer; any other one is raised as our error."""
        verb = _verb(method, collection=collection)
        if method != "GET" and target.resource != LEASES:
            self.fence()
        try:
            response = await self._send(
                method,
                target,
                query=query,
                body=body,
                content_type=content_type,
                collection=collection,
                timeout=self._timeout,
            )
            async with response:
                text = await response.read()
        except TimeoutError as error:
            raise UnavailableError(
                f"{verb} {target}: no answer from {self._place} within {self._timeout.total:g} s"
            ) from error
        except (aiohttp.ClientError, ConfigException, OSError) as error:
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                await self._disconnect()  # the API server's CA may have been renewed: it is read afresh
            raise UnavailableError(f"{verb} {target}: {self._told(error)}") from error
        if response.status >= 400 and not (response.status == 404 and method in ("GET", "DELETE") and not collection):  # noqa: PLR2004 - HTTP
            if response.status == 401:  # noqa: PLR2004 - HTTP
                await self._refused()
            raise _failure(response, text, verb, target, self._identity)
        return response.status, text

    async def _send(
        self,
        method: str,
        target: Target,
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own, handed through
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = _JSON,
        collection: bool = False,
        client: ApiClient | None = None,
    ) -> aiohttp.ClientResponse:
        client = client or await self._connected()
        path = target.resource.path(namespace=target.namespace, name=None if collection else target.name)
        request = await client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": _JSON, "Accept-Encoding": self._encoding, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await client.call_api(*request, _request_timeout=timeout)
        except (RuntimeError, AssertionError) as error:  # aiohttp asserts that its session has a connector
            if client is self._client:
                raise
            # Another request found our credentials stale and closed this connection meanwhile.
            raise UnavailableError(f"{method} {target}: the connection was renewed meanwhile") from error
        response = cast("aiohttp.ClientResponse", answer.response)
        self.clock.heard(response.headers.get("Date"))
        return response

    async def _connected(self) -> ApiClient:
        async with self._connecting:
            if self._client is not None and not (self._login is not None and self._login.is_due):
                return self._client
            if self._client is None:
                self._choose()  # read afresh: an API server's CA or a token may have been renewed
            user = {} if self._login is None else await self._login.user()
            if self._client is not None and self._client.configuration.api_key and not user.get(_CLIENT_CERTIFICATE):
                # A new token alone: requests to come carry it, connections stay.
                self._client.configuration.api_key["BearerToken"] = f"Bearer {user['token']}"
                return self._client
            await self._disconnect()
            self._client = await self._new_client(user)
            return self._client

    async def _new_client(self, user: Mapping[str, Any]) -> ApiClient:
        configuration = Configuration()
        try:
            if self._login is None:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call] # kubernetes has no types here
                proxy_url = None
            else:
                context = self._login.context
                await load_kube_config_from_dict(  # type: ignore[no-untyped-call] # likewise
                    config_dict=context.as_kubeconfig(user), client_configuration=configuration
                )
                proxy_url = context.cluster.get("proxy-url")
            proxy = proxy_for(configuration.host, proxy_url, os.environ)
            is_socks = proxy is not None and proxy.partition(":")[0] in SOCKS
            configuration.proxy = None if is_socks else proxy
            if is_socks and configuration.tls_server_name:
                raise ValueError("tls-server-name does not go with a SOCKS proxy: name that host in server instead")  # noqa: TRY301 - worded below
            # Our own reading of the environment, no netrc.
            configuration.client_session_kwargs = {"trust_env": False, "middlewares": (_refuse_redirect,)}
            # As Go does: authorities without key identifiers are common, and any trusted certificate is an anchor.
            configuration.disable_strict_ssl_verification = True
            client = ApiClient(configuration)
            client.rest_client.ssl_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        except (ConfigException, OSError, ssl.SSLError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise InvalidConfigurationError(f"cannot use {self._place}: {_words(error)}") from error
        if proxy is not None and is_socks:
            # Meant to be overridden, says its docstring.
            client.rest_client._create_connector = partial(_socks_connector, proxy, client)  # type: ignore[method-assign]  # noqa: SLF001
        client.user_agent = FIELD_MANAGER
        return client

    @property
    def _identity(self) -> str:
        """The identity that makes the requests, and the server."""
        if self._login is None or not self._login.context.user_name:
            return self._place
        return f"user {self._login.context.user_name} at {self._place}"

    def _told(self, error: BaseException) -> str:
        is_answer = isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError)
        return _words(error) if is_answer else told(error, self._place)

    def _choose(self) -> None:
        """Choose address and user: --kubeconfig, KUBECONFIG, the pod's own, or ~/.kube/config."""
        if kubeconfigs.is_in_pod(self._kubeconfig):
            self._login, self._place = None, "this pod's API server, as its ServiceAccount"
            self._encoding = "identity"
            return
        chosen = str(self._kubeconfig) if self._kubeconfig else os.environ.get("KUBECONFIG")
        files = [part for part in (chosen or os.path.expanduser("~/.kube/config")).split(os.pathsep) if part]
        context = kubeconfigs.read(files, context=self._context)
        self._place = f"{context.server} (context {context.name})"
        self._encoding = "identity" if (URL(context.server).host or "") in _LOOPBACK else "gzip"
        if self._login is not None and self._login.context == context:
            return
        self._login = Login(
            context,
            timeout_seconds=self._login_timeout_seconds,
            may_ask_a_person=self._may_ask_a_person,
            backoff=self._backoff,
        )

    async def _refused(self) -> None:
        """Forget the credentials that the API server does not accept (401): the next request asks for new ones."""
        if self._login is not None:
            self._login.refused()
        await self._disconnect()

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await self._close_unless_watching(client)

    async def _close_unless_watching(self, client: ApiClient) -> None:
        if not self._watches[client]:
            del self._watches[client]
            await client.close()  # type: ignore[no-untyped-call] # likewise


def _verb(method: str, *, collection: bool) -> str:
    return {"GET": "list" if collection else "get", "PATCH": "patch", "DELETE": "delete", "POST": "create"}[method]


async def _refuse_redirect(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Never follow a redirect: it would take credentials and the bodies of Secrets to a host of its choice.

    kube-apiserver does not redirect what we ask for; a proxy or a login page in front of it does.
    """
    response = await send(request)
    if response.status // 100 == 3:  # noqa: PLR2004 - HTTP
        response.close()
        try:
            where = URL(response.headers.get("Location", "")).host or "the same host"
        except ValueError:
            where = "an address that cannot be read"
        raise UnavailableError(
            f"{request.url.origin()} answered {response.status}, a redirect to {where}: it is not followed, since it "
            "would get our credentials. Check that the kubeconfig names the API server itself"
        )
    return response


def _event(line: bytes, target: Target) -> tuple[str, Manifest]:
    event = bounded_json.loads(line)  # half a line raises ValueError, which ends the watch
    if isinstance(event, dict) and event.get("type") == "ERROR" and isinstance(event.get("object"), dict):
        status = event["object"]
        raise UnavailableError(f"watch of {target}: {status.get('code')} {status.get('message')}")
    if not (
        isinstance(event, dict)
        and isinstance(event.get("type"), str)
        and _is_object(event.get("object"))
        and "resourceVersion" in event["object"]["metadata"]
    ):
        raise UnavailableError(f"watch of {target}: expected an event, got {line[:80]!r}")
    return event["type"], event["object"]


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether `value` has the shape of what an API server sends: a load balancer's page of JSON has not."""
    if not isinstance(value, dict) or not isinstance(metadata := value.get("metadata"), dict):
        return False
    managed = metadata.get("managedFields")
    return (
        all(metadata.get(field) is None or isinstance(metadata[field], str) for field in _WORDS)
        and all(_is_mapping_of_words(metadata.get(field)) for field in ("labels", "annotations"))
        and (managed is None or (isinstance(managed, list) and all(isinstance(one, dict) for one in managed)))
    )


def _is_mapping_of_words(value: object) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(one, str) for one in value.values()))


def _items(listed: Manifest, target: Target) -> list[Manifest]:
    """Return the objects of a list; UnavailableError where one of them has not the shape of an object."""
    items = listed.get("items") or []
    if not isinstance(items, list) or not all(_is_object(one) and one["metadata"].get("name") for one in items):
        raise UnavailableError(f"list {target}: expected a list of objects from the API server, got something else")
    return items


def _failure(
    response: aiohttp.ClientResponse, text: bytes, verb: str, target: Target, identity: str
) -> ReconcilerError:
    """Return the error that an answer of 400 or more stands for; `identity` names who asked which server."""
    message = _message(response, text)
    status = response.status
    if status in (401, 403):
        return ForbiddenError(_forbidden(status, message, verb, target, identity))
    if status == 409:  # noqa: PLR2004 - HTTP
        return ConflictError(f"{verb} {target}: {message}")
    if status == 410 or status == 429 or status >= 500:  # noqa: PLR1714, PLR2004 - HTTP
        return UnavailableError(
            f"{verb} {target}: the API server answered {status}: {message}", retry_after_seconds=_retry_after(response)
        )
    return RejectedError(f"{verb} {target}: the API server refuses it ({status}): {message}")


def _message(response: aiohttp.ClientResponse, text: bytes) -> str:
    """Return the words of a refusal: its body is a Status object or plain text."""
    try:
        return str(bounded_json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.decode(errors="replace").strip()[:500] or str(response.reason)


def _is_rbac(text: bytes) -> bool:
    """Return whether a 403 comes from authorization; admission plugins answer 403 too, in other words."""
    return b"cannot create resource" in text


def _unquoted(warning: str) -> str:
    """Return the text of a Warning header: `299 - "text"`. Source: RFC 7234, 5.5."""
    found = re.match(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"', warning)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else warning


def _forbidden(status: int, message: str, verb: str, target: Target, identity: str) -> str:
    if status == 401:  # noqa: PLR2004 - HTTP
        return (
            f"{verb} {target}: the API server does not accept the credentials of {identity} (401): "
            "log in again, or check the kubeconfig or the token"
        )
    if '"system:anonymous"' in message:
        return f"{verb} {target}: {identity} has no credentials, the API server answered as to system:anonymous: log in"
    refused = re.search(r"cannot (\w+) resource", message)
    if refused is None:
        return f"{verb} {target}: forbidden: {message}"
    verb = refused[1]
    # RBAC knows no names for create: the object does not exist when the right is asked for.
    names = "" if verb == "create" or not target.name else f", resourceNames: [{target.name}]"
    role = f"Role in namespace {target.namespace}" if target.namespace else "ClusterRole"
    return (
        f"{verb} {target}: forbidden: {message}. Missing rule of the {role}: "
        f'{{apiGroups: ["{target.resource.group}"], resources: [{target.resource.plural}]{names}, verbs: [{verb}]}}; '
        "docs/security.md says what each rule is for"
    )


def _retry_after(response: aiohttp.ClientResponse) -> float:
    try:
        seconds = float(response.headers.get("Retry-After", "0"))
    except ValueError:
        return 0.0
    # An hour is no answer to "when shall I come again": a proxy's mistake must not stop the loop.
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), 60.0)


def _precondition(observed: Manifest) -> dict[str, str]:
    return {field: observed["metadata"][field] for field in ("uid", "resourceVersion")}


def _dry_run(*, dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _api_version(target: Target) -> str:
    return f"{target.resource.group}/{target.resource.version}" if target.resource.group else target.resource.version


def _socks_connector(proxy: str, client: ApiClient) -> aiohttp.TCPConnector:
    from reconciler.kube.socks import SocksConnector  # noqa: PLC0415 - few need it

    limit = client.configuration.connection_pool_maxsize
    return SocksConnector.through(proxy, ssl=client.rest_client.ssl_context, limit=limit)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
