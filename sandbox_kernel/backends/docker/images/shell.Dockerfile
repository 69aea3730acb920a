# Shell cells: bash, which is there, and the tools that people expect beside it.
ARG BASE=sandbox-kernel/base
FROM ${BASE}
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
        bc bsdextrautils file gawk jq less procps tree unzip xz-utils zip \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
