# JavaScript and TypeScript cells: Node.js of the base's release, and what strips the types
# for it: node-typescript is one package of pure JavaScript.
ARG BASE=sandbox-kernel/base
FROM ${BASE}
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
        nodejs node-typescript \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
