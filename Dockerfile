# The image of seccomp-reconciler. docs/image.md has the command that builds it.

# One image is fetched: the interpreter and the system's libraries come from it. Its digest has no usable default, so
# that each build says what it stands on; a build without one is refused by this name. Where to find it:
#   docker buildx imagetools inspect python:3.13-slim-bookworm
ARG PYTHON_IMAGE=python:3.13-slim-bookworm
ARG PYTHON_DIGEST=sha256:give-a-build-arg-as-docs-image.md-says

FROM ${PYTHON_IMAGE}@${PYTHON_DIGEST} AS build
# Seconds since 1970: the time of every file of the wheel and of the image.
ARG SOURCE_DATE_EPOCH=1580601600
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY image/build.py image/
COPY reconciler reconciler
RUN ["python", "image/build.py", "/image"]

# No shell, no package manager, no pip: what image/build.py put together, and nothing else.
FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="seccomp-reconciler" \
      org.opencontainers.image.description="Default seccomp profiles for the control planes of a Gardener seed" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/ /
# SAFEPATH: `python -m` would look for modules in the working directory first.
# SSL_CERT_FILE: for a kubeconfig that names no authority; OpenSSL would look elsewhere.
ENV PATH=/usr/local/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
EXPOSE 9443 8080 8081
USER 65532:65532
ENTRYPOINT ["python", "-m", "reconciler"]
