# The last step of every image: our code, which runs first in each container.
#
# It comes last and alone, so that a new version of it is one small layer and costs seconds.
# The label org.sandbox-kernel.guest, which `setup` adds, names the version: a host uses what
# is here only when it is its own.
ARG BASE
FROM ${BASE}
COPY guest /opt/sandbox-kernel/guest
# Files with the rights of another user are a way up that nobody here needs.
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/sandbox-kernel/guest \
    && chmod -R go-w,a+rX /opt/sandbox-kernel/guest \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
