#!/bin/sh
# Adds the sidecar to what Helm 3 renders of gardenlet's chart:
#
#   SIDECAR_IMAGE=REPOSITORY:TAG helm upgrade gardenlet CHART -n garden --post-renderer .../post-render.sh
#
# SIDECAR_IMAGE    image of seccomp-reconciler, with a tag or a digest
# SIDECAR_VARIANT  plain (default) or native, see docs/sidecar.md
#
# Reads manifests on stdin and writes them to stdout, with kustomize or kubectl; keeps no file. When it fails, Helm
# installs nothing.
set -eu

fail() {
    echo "post-render.sh: $*" >&2
    exit 1
}

image=${SIDECAR_IMAGE-}
variant=${SIDECAR_VARIANT:-plain}
component=$(cd "$(dirname "$0")/.." && pwd)/$variant

case $image in
*[!A-Za-z0-9._/:@-]*) fail "SIDECAR_IMAGE is '$image': expected REPOSITORY:TAG or REPOSITORY@DIGEST" ;;
*?[:@]?*) ;;
*) fail "SIDECAR_IMAGE is '$image': expected REPOSITORY:TAG or REPOSITORY@DIGEST" ;;
esac
case $variant in
plain | native) ;;
*) fail "SIDECAR_VARIANT is '$variant': expected plain or native" ;;
esac

if command -v kustomize >/dev/null; then
    build='kustomize build'
elif command -v kubectl >/dev/null; then
    build='kubectl kustomize'
else
    fail 'neither kustomize nor kubectl is in PATH: install one of them'
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# kustomize reads no files outside its own folder.
mkdir "$work/sidecar"
cp "$component/kustomization.yaml" "$work/sidecar/"
sed "s|image: seccomp-reconciler:.*|image: \"$image\"|" "$component/patch.yaml" >"$work/sidecar/patch.yaml"
cat >"$work/release.yaml"
cat >"$work/kustomization.yaml" <<END
resources: [release.yaml]
components: [sidecar]
END
$build "$work"
