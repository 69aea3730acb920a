# Every language in one image, for notebooks whose cells are in several. BASE has Python, and Deno
# beside it, as `python.Dockerfile` makes it; this adds what the other languages' images have.
#
# The list repeats theirs; a test compares.
ARG BASE=sandbox-kernel/polyglot:packages-python
FROM ${BASE}
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
        bc bsdextrautils file gawk jq less procps tree unzip xz-utils zip \
        nodejs node-typescript \
        r-base-core r-cran-irkernel \
        ruby \
        lua5.4 perl php-cli \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
