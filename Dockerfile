# The image of the broker: Python, the locked packages and the broker, and nothing that could install or build more.
#
#   make image               fetches what is locked first, then builds without a network
#   docker build .           fetches while it builds
#
# Either way pip takes only what has a hash of requirements/. The base is a name here, so that everybody can build from
# a mirror of theirs; what goes to production is built from a digest, which no one can change later:
#
#   make image BASE=docker.io/library/python:3.13-slim@sha256:...     (the digest: skopeo inspect, or podman pull)
#
# uvloop is left out: no measurement has shown yet that it is worth its memory in each pod.
ARG BASE=docker.io/library/python:3.13-slim

# hadolint ignore=DL3006
FROM ${BASE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

# Two environments: what builds the broker stays behind in this stage. The folder of fetched wheels is mounted and not
# copied, because it may be missing. (Only this: a cache does not see that something mounted has changed.)
# pip compiles nothing: the bytecode below is of the kind that no time stamp makes invalid.
COPY requirements /src/requirements
# hadolint ignore=DL3013
RUN --mount=type=bind,target=/context \
    set -eu; \
    if [ -d /context/dist/wheels ]; then export PIP_NO_INDEX=1 PIP_FIND_LINKS=/context/dist/wheels; fi; \
    python3 -m venv --without-pip /tmp/builder; \
    python3 -m venv --without-pip /opt/token-broker; \
    python3 -m pip --python /tmp/builder/bin/python3 install \
        --require-hashes --only-binary=:all: --requirement /src/requirements/build.txt; \
    python3 -m pip --python /opt/token-broker/bin/python3 install --no-compile \
        --require-hashes --only-binary=:all: --requirement /src/requirements/run.txt

# The broker without its sandbox, which .dockerignore leaves out, as a wheel: scanners know it by name and version then.
COPY pyproject.toml README.md LICENSE /src/
COPY broker /src/broker
# hadolint ignore=DL3013
RUN set -eu; \
    python3 -m pip --python /tmp/builder/bin/python3 wheel --no-index --no-deps --no-build-isolation \
        --wheel-dir /tmp/wheel /src; \
    python3 -m pip --python /opt/token-broker/bin/python3 install --no-compile --no-deps --no-index /tmp/wheel/*.whl; \
    rm -f /opt/token-broker/bin/[Aa]ctivate* /opt/token-broker/bin/token-broker; \
    python3 -m compileall -q --invalidation-mode unchecked-hash /opt/token-broker/lib

# The command, run by an interpreter that takes nothing from the environment, the directory or a home (-I), and writes
# no bytecode (-B): there is nothing left to write, and the root file system may be read-only.
RUN printf '%s\n' '#!/opt/token-broker/bin/python3 -IB' 'from broker.cli import main' 'raise SystemExit(main())' \
        > /opt/token-broker/bin/token-broker \
 && chmod 0755 /opt/token-broker/bin/token-broker \
 && install -d -m 0755 /image/etc/token-broker \
 && install -d -m 0755 -o 65532 -g 65532 /image/run/token-broker \
 && install -d -m 0750 -o 65532 -g 65532 /image/var/log/token-broker \
 && install -d -m 0700 -o 65532 -g 65532 /image/var/lib/token-broker


# hadolint ignore=DL3006
FROM ${BASE}

COPY --from=build /opt/token-broker /opt/token-broker

# What the base brings and nobody needs at run time: pip in both of its forms, and bits that let a file run as somebody
# else. Then the standard library is compiled, as far as the broker imports it: the official images come without
# bytecode, and what is compiled anew at each start costs a second of it.
RUN find / -xdev -type d \( -name pip -o -name 'pip-*.dist-info' -o -name ensurepip \) -path '*/python3*' \
        -prune -exec rm -rf {} + \
 && find / -xdev -path '*/bin/pip*' -delete \
 && find / -xdev -perm /6000 -exec chmod ug-s {} + \
 && /opt/token-broker/bin/python3 -I -c "import importlib, pkgutil, broker; \
        [importlib.import_module(m.name) for m in pkgutil.walk_packages(broker.__path__, 'broker.') \
         if m.name != 'broker.__main__']"

# Places of a configuration for this image: each may be a volume, and has an owner that fits if it is none.
COPY --from=build /image /

ARG VERSION="" REVISION="" CREATED="" SOURCE="" BASE
LABEL org.opencontainers.image.title="token-broker" \
      org.opencontainers.image.description="Gets OAuth tokens at FAPI level for the workload beside it, and serves them on a Unix socket" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE}"

# The PYTHON variables are for who starts another Python in here: the broker's own interpreter reads none.
# hadolint takes the names for secrets; they are of places.
# hadolint ignore=DL3064
ENV PATH=/opt/token-broker/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    TOKEN_BROKER_CONFIG=/etc/token-broker/config.toml \
    TOKEN_BROKER_SOCKET=unix:///run/token-broker/app/api.sock \
    PYTHONSAFEPATH=1 PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1

WORKDIR /
# Numbers, so that a cluster can see that it is not root. No HEALTHCHECK: whoever runs the image knows the socket, and
# asks `token-broker health`.
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["token-broker"]
CMD ["run"]
