# R cells: the language with its recommended packages left out, and IRkernel, whose plots are
# drawn by Cairo.
ARG BASE=sandbox-kernel/base
FROM ${BASE}
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
        r-base-core r-cran-irkernel \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
