# Perl, PHP and Lua cells: three small interpreters in one image.
ARG BASE=sandbox-kernel/base
FROM ${BASE}
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
        lua5.4 perl php-cli \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
