# What every image of ours stands on: a Debian with a whole Python 3.8 or newer for the
# supervisor, and an account for each uid that a container may run as.
#
#   docker build -f base.Dockerfile -t sandbox-kernel/base .
#
# BASE is any image with apt. Nothing comes from elsewhere than its own package sources.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
USER root

# python3-minimal is no whole Python: it has no json. One that is there is kept, unless it is old.
RUN python3 -c 'import ctypes, json, selectors, sys, venv; assert sys.version_info >= (3, 8)' \
        2>/dev/null \
    || { apt-get -q update \
      && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends python3 \
      && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log; }

# The root is read-only later: what is not compiled now is compiled at every start.
# Where all is compiled already this adds nothing.
RUN python3 -m compileall -q -j 0 -x '/(test|tests|idlelib|lib2to3|site-packages|dist-packages)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" >/dev/null || true

# The host picks one of these 1,024 ids for every container, so that what the kernel counts
# by uid is counted by session. As in `container.py`; a test compares.
RUN for id in $(seq 61184 62207); do \
        echo "sandbox:x:$id:$id::/home/sandbox:/bin/bash" >>/etc/passwd; \
        echo "sandbox:x:$id:" >>/etc/group; \
    done \
    && mkdir -p /workspace /home/sandbox /run/sandbox-kernel /opt/sandbox-kernel/home

# A base may bring its own of these; a health check would be a process that nobody asked for.
HEALTHCHECK NONE
ENTRYPOINT []
CMD ["bash"]
ENV LANG=C.UTF-8
WORKDIR /workspace
