# Python cells by ipykernel, of the base's release: its Python is the one that runs it.
ARG BASE=sandbox-kernel/base
FROM ${BASE}
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
        python3-ipykernel \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
