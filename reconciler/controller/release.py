"""The settings of the installed release, for a command outside its pods: where they are, and what they mean there.

The chart writes the settings into one ConfigMap of a fixed name, which its pods mount. A path in them is a path in such
a pod: a GardenletConfiguration that is a file there is read from the object that the file is made of.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import yaml

from reconciler.cluster import CONFIG_MAPS, Cluster, Selection, Target
from reconciler.errors import ConfigurationNotFoundError, ForbiddenError
from reconciler.settings import API_VERSION, KIND, ReconcilerConfiguration, parse
from reconciler.sources import KeySource, key_of

# Source: charts/seccomp-reconciler/templates/config.yaml. The chart has no other names, whatever the release's is.
NAME: Final = "seccomp-reconciler"
KEY: Final = "config.yaml"
_DOCUMENT: Final = "seccomp-reconciler-gardenlet"  # the value gardenletDocument of the chart
_DOCUMENT_PATH: Final = ReconcilerConfiguration().gardenlet_configuration.file
_LABELS: Final = "app.kubernetes.io/name=seccomp-reconciler"
_DEFAULTS: Final = f"apiVersion: {API_VERSION}\nkind: {KIND}\n".encode()


class ReleaseSource:
    """The settings of the release in `namespace`; where that is absent or forbidden and `is_optional`, the defaults.

    `may_be_gone`: for a command that is there for the time after an uninstall; the defaults only where it is absent.
    """

    def __init__(self, cluster: Cluster, namespace: str, *, is_optional: bool, may_be_gone: bool = False) -> None:
        self._cluster = cluster
        self._target = Target(CONFIG_MAPS, NAME, namespace)
        self._is_optional = is_optional
        self._may_be_gone = may_be_gone
        self.why_defaults = ""  # why the last reading gave the defaults; empty: it gave the release's settings
        self.origin = f"{self._target}, key {KEY}"

    async def read(self) -> bytes:
        """Return the settings; ConfigurationNotFoundError where there is no release, ForbiddenError names the right."""
        self.why_defaults = ""
        try:
            found = await self._cluster.get(self._target)
        except ForbiddenError as error:
            if not self._is_optional:
                raise ForbiddenError(f"without --config the release's settings are read: {error}") from error
            self.why_defaults = str(error)
            return _DEFAULTS
        if found is None:
            await self._found_elsewhere()
            absent = f"there is no {self._target} at {self._cluster.place}"
            if not (self._is_optional or self._may_be_gone):
                raise ConfigurationNotFoundError(
                    f"without --config the release's settings are read, and {absent}: give --namespace where the "
                    "release is in another one, --context or --kubeconfig where it is in another cluster, or --config"
                )
            self.why_defaults = absent
            return _DEFAULTS
        return await self._for_here(key_of(found, KEY, origin=self.origin))

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield after each change of the ConfigMap; never where the defaults are in force."""
        if self.why_defaults:
            await asyncio.Event().wait()
        async with aclosing(KeySource(self._cluster, self._target, KEY).changes()) as changes:
            async for _ in changes:
                yield

    async def _found_elsewhere(self) -> None:
        """Raise ConfigurationNotFoundError where a release is in another namespace, as far as that may be read."""
        try:
            namespaces = sorted(
                {
                    one["metadata"]["namespace"]
                    async for one in self._cluster.select(Selection(CONFIG_MAPS, labels=_LABELS))
                    if one["metadata"]["name"] == NAME
                }
            )
        except ForbiddenError:
            return
        if namespaces:
            raise ConfigurationNotFoundError(
                f"without --config the release's settings are read, and there is no {self._target} at "
                f"{self._cluster.place}, but in {', '.join(namespaces)}: give --namespace {namespaces[0]}"
            )

    async def _for_here(self, content: bytes) -> bytes:
        """Return the settings with a GardenletConfiguration that can be read from outside a pod."""
        file = parse(content, origin=self.origin).gardenlet_configuration.file
        if file is None:
            return content
        namespace = self._target.namespace
        of_release = Target(CONFIG_MAPS, _DOCUMENT, namespace)
        chosen: dict[str, object] = {"deployment": {"namespace": namespace}}
        if file == _DOCUMENT_PATH and await self._cluster.get(of_release) is not None:
            chosen = {"configMap": {"namespace": namespace, "name": _DOCUMENT}}
        return yaml.safe_dump({**yaml.safe_load(content), "gardenletConfiguration": chosen}).encode()
