# SPDX-License-Identifier: Apache-2.0
# The images of the broker and the operator, with nothing in them but what they run with.
#
# `make dist` lays out one root folder per image: the binary, the shared libraries that it links, certificate
# authorities, time zones and a non-root account. The build context is the folder that holds these root folders, so
# that docker, podman and buildah build the same image, offline:
#
#   make dist && docker build -f Dockerfile --target odradek-broker "$CARGO_TARGET_DIR/images"

FROM scratch AS odradek-broker
LABEL org.opencontainers.image.title="odradek-broker" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY odradek-broker/ /
USER 65532:65532
# Clients, brokers and operator, HTTP (probes and metrics).
EXPOSE 9092 9090 9404
ENTRYPOINT ["/usr/bin/odradek-broker"]

FROM scratch AS odradek-operator
LABEL org.opencontainers.image.title="odradek-operator" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY odradek-operator/ /
USER 65532:65532
# HTTP (probes and metrics).
EXPOSE 8080
ENTRYPOINT ["/usr/bin/odradek-operator"]
