# Python and SQL cells: IPython, numpy, pandas, matplotlib and DuckDB in /opt/python, which is
# first in PATH, so that the supervisor's python3 is the one that can import them.
#
# The context has `wheels/` and `requirements.txt`, downloaded and written by the host: its pip
# knows index, proxy and certificates. They stay in the first stage.
ARG BASE=sandbox-kernel/base
FROM ${BASE} AS installed
COPY wheels /wheels
COPY requirements.txt warm.py /made/
# Of packages installed for work nobody runs the tests: a fifth of the bytes.
RUN python3 -m venv --without-pip /opt/python \
    && /opt/python/bin/python3 -I "$(echo /wheels/pip-*.whl)/pip" install --quiet --no-index \
        --find-links /wheels --no-cache-dir --no-compile --root-user-action ignore \
        -r /made/requirements.txt \
    && find /opt/python/lib -type d -name tests -prune -exec rm -rf {} + \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/python/lib
# What a home starts with, lest the first chart wait for a list of fonts and the first
# completion for the stubs of the standard library. `warm.py` is the host's own (see `seeds`).
RUN cd /made && HOME=/opt/sandbox-kernel/home /opt/python/bin/python3 -I warm.py \
    && rm -f /opt/sandbox-kernel/home/.cache/jedi/PARSO-CACHE-LOCK

FROM ${BASE}
COPY --from=installed /opt/python /opt/python
COPY --from=installed /opt/sandbox-kernel/home/.cache /opt/sandbox-kernel/home/.cache
ENV PATH=/opt/python/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
