"""What a pass is made from, read from its sources: the gate's decision and the caBundle."""

from pathlib import Path

from reconciler.cluster import CLUSTER_ROLES, CONFIG_MAPS, DEPLOYMENTS, SECRETS, Cluster, Target
from reconciler.errors import ForbiddenError
from reconciler.gardenlet import document, featuregates
from reconciler.registration import ca_bundle, owner
from reconciler.registration.owner import Owner
from reconciler.settings import CASource, GardenletConfigurationSource, Registration
from reconciler.sources import FileSource, InlineSource, KeySource, MountedSource, Source


def configuration_source(setting: GardenletConfigurationSource, cluster: Cluster) -> Source:
    """Return the source of the GardenletConfiguration."""
    if setting.config_map is not None:
        reference = setting.config_map
        return KeySource(cluster, Target(CONFIG_MAPS, reference.name, reference.namespace), reference.key)
    if setting.deployment is not None:
        return MountedSource(cluster, Target(DEPLOYMENTS, setting.deployment.name, setting.deployment.namespace))
    return FileSource(Path(setting.file or ""), most_bytes=document.MAX_DOCUMENT_BYTES)


def ca_sources(setting: CASource, cluster: Cluster) -> tuple[Source, ...]:
    """Return every source whose change may mean another caBundle."""
    found = ca_source(setting, cluster)
    if setting.self_signed is None:
        return (found,)
    own = setting.self_signed
    return (found, KeySource(cluster, Target(SECRETS, own.authority_secret, own.namespace), "ca.crt"))


def ca_source(setting: CASource, cluster: Cluster) -> Source:
    """Return the source of the caBundle; of our own certificates, that is the Secret that the server mounts."""
    if setting.self_signed is not None:
        return KeySource(
            cluster, Target(SECRETS, setting.self_signed.serving_secret, setting.self_signed.namespace), "ca.crt"
        )
    if setting.secret is not None:
        secret = setting.secret
        return KeySource(cluster, Target(SECRETS, secret.name, secret.namespace), secret.key)
    if setting.config_map is not None:
        reference = setting.config_map
        return KeySource(cluster, Target(CONFIG_MAPS, reference.name, reference.namespace), reference.key)
    if setting.inline is not None:
        return InlineSource(setting.inline.encode(), "registration.ca.inline")
    return FileSource(Path(setting.file or ""), most_bytes=ca_bundle.MAX_BYTES)


async def read_decision(source: Source) -> featuregates.Decision:
    """Return what the GardenletConfiguration in `source` says about the gate."""
    configuration = document.parse_any(await source.read(), origin=source.origin)
    return featuregates.decide(configuration.feature_gates)


async def read_owner(cluster: Cluster, registration: Registration) -> Owner:
    """Return the owner of the registration; raises what may pass by itself, a missing right becomes a trouble."""
    name = registration.owner_cluster_role
    if not name:
        return Owner()
    try:
        return owner.of(await cluster.get(Target(CLUSTER_ROLES, name)), name)
    except ForbiddenError as error:
        return Owner(trouble=str(error))


async def read_ca_bundle(source: Source) -> bytes:
    """Return the certificates in `source` as PEM."""
    return ca_bundle.parse(await source.read(), origin=source.origin)
