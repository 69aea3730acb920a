# Deno cells: one program, which the host's pip has downloaded (as for `python.Dockerfile`).
ARG BASE=sandbox-kernel/base
FROM ${BASE} AS unpacked
COPY wheels /wheels
RUN python3 -m zipfile -e /wheels/deno-*.whl /unpacked \
    && install -m 755 /unpacked/deno-*.data/scripts/deno /usr/local/bin/deno

FROM ${BASE}
COPY --from=unpacked /usr/local/bin/deno /usr/local/bin/deno
