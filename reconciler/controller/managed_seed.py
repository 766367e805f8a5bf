"""The Shoot behind a ManagedSeed, read from a file or from the garden cluster; `status` and `audit` ask for it."""

from pathlib import Path
from typing import Final

from reconciler import files
from reconciler.backoff import Backoff
from reconciler.cluster import Cluster, Resource, Target
from reconciler.errors import ConfigurationNotFoundError, InvalidConfigurationError
from reconciler.pods import kubelet
from reconciler.pods.kubelet import Kubelets
from reconciler.registration import manifests
from reconciler.settings import GardenSource, ReconcilerConfiguration, ShootSource

# ManagedSeeds are in this namespace, and their Shoots with them. Source: gardener docs/operations/managed_seed.md.
NAMESPACE: Final = "garden"
_MANAGED_SEEDS: Final = Resource("seedmanagement.gardener.cloud", "v1alpha1", "managedseeds")
_SHOOTS: Final = Resource("core.gardener.cloud", "v1beta1", "shoots")

# As long as other commands without a deadline give a credential plugin: a person may have to log in.
_LOGIN_SECONDS: Final = 60.0


async def kubelets(source: ShootSource, settings: ReconcilerConfiguration) -> Kubelets:
    """Return what the Shoot says of its kubelets; raises as `cluster` and `files` do."""
    if source.garden is not None:
        return await _of_garden(source.garden, settings)
    path = Path(source.file or "")
    return kubelet.parse(files.read_file(path, most_bytes=manifests.MAX_BYTES), origin=str(path))


async def _of_garden(garden: GardenSource, settings: ReconcilerConfiguration) -> Kubelets:
    if not Path(
        garden.kubeconfig
    ).is_file():  # the connection's own error would ask for --kubeconfig, which is the seed's
        raise ConfigurationNotFoundError(
            f"{garden.kubeconfig}: no such file; expected a kubeconfig of the garden cluster"
        )
    async with Cluster(
        kubeconfig=Path(garden.kubeconfig),
        request_timeout_seconds=settings.request_timeout_seconds,
        backoff=Backoff(settings.backoff.initial, settings.backoff.maximum),
        login_timeout_seconds=_LOGIN_SECONDS,
        may_ask_a_person=True,
    ) as cluster:
        if not await cluster.serves(_MANAGED_SEEDS):
            raise ConfigurationNotFoundError(
                f"{garden.kubeconfig}: its cluster has no {_MANAGED_SEEDS.plural}.{_MANAGED_SEEDS.group}; "
                "expected a kubeconfig of the garden cluster"
            )
        place = f"managedseeds/{garden.managed_seed} in namespace {NAMESPACE}"
        seed = await cluster.get(Target(_MANAGED_SEEDS, garden.managed_seed, NAMESPACE))
        if seed is None:
            raise ConfigurationNotFoundError(f"{garden.kubeconfig}: no {place}; check the name of the ManagedSeed")
        spec = seed.get("spec")
        shoot = spec.get("shoot") if isinstance(spec, dict) else None
        name = shoot.get("name") if isinstance(shoot, dict) else None
        if not isinstance(name, str) or not name:
            raise InvalidConfigurationError(f"{place}: spec.shoot.name: expected the name of a Shoot, found none")
        found = await cluster.get(Target(_SHOOTS, name, NAMESPACE))
        if found is None:
            raise ConfigurationNotFoundError(f"{place}: its Shoot {name} is not in namespace {NAMESPACE}")
        return kubelet.of_shoot(found, origin=f"shoots/{name} in namespace {NAMESPACE}")
