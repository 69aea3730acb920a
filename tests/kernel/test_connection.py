"""Connection files: good ones are understood, others refused by name and with the remedy."""

from __future__ import annotations

import contextlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_kernel.errors import ConnectionFileError
from sandbox_kernel.kernel import connection

GOOD = {
    "transport": "tcp",
    "ip": "127.0.0.1",
    "key": "abc",
    "signature_scheme": "hmac-sha256",
    **{f"{name}_port": 5000 + n for n, name in enumerate(connection.CHANNELS)},
}
CURVE = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


def test_a_good_file_is_read(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({**GOOD, "kernel_name": "x", "jupyter_session": "/n.ipynb"}))
    found = connection.read(str(path))
    assert found.endpoint("shell") == "tcp://127.0.0.1:5000"
    assert (found.key, found.digest) == (b"abc", "sha256")


def test_ipc_endpoints_are_paths_with_a_dash():
    found = connection.parse("c", {**GOOD, "transport": "ipc", "ip": "/run/k"})
    assert found.endpoint("iopub") == "ipc:///run/k-5001"


def test_curve_keys_are_read_in_pairs():
    both = {**GOOD, "curve_publickey": CURVE, "curve_secretkey": CURVE}
    assert connection.parse("c", both).curve_secret == CURVE.encode()
    with pytest.raises(ConnectionFileError, match="not the other CURVE key"):
        connection.parse("c", {**GOOD, "curve_publickey": CURVE})


def test_a_file_that_jupyter_client_writes_is_read(tmp_path):
    from jupyter_client.connect import write_connection_file

    path = str(tmp_path / "c.json")
    _, written = write_connection_file(path, key=b"k")
    assert connection.read(path).ports["hb"] == written["hb_port"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"transport": "inproc"}, "inproc"),
        ({"transport": None}, "transport"),
        ({"ip": ""}, "ip"),
        ({"ip": 7}, "ip"),
        ({"shell_port": 0}, "shell_port is 0"),
        ({"shell_port": 65536}, "65536"),
        ({"shell_port": True}, "shell_port"),
        ({"shell_port": "5000"}, "shell_port"),
        ({"key": 5}, "key"),
        ({"signature_scheme": "md5"}, "md5"),
        ({"signature_scheme": "hmac-nonesuch"}, "nonesuch"),
        ({"signature_scheme": "hmac-shake_128"}, "shake"),
        ({"curve_publickey": "short", "curve_secretkey": CURVE}, "curve_publickey"),
    ],
)
def test_a_field_that_makes_no_sense_is_named(changes, told):
    with pytest.raises(ConnectionFileError, match=told):
        connection.parse("c.json", {**GOOD, **changes})


def test_missing_fields_are_named_and_no_key_is_ever_quoted():
    with pytest.raises(ConnectionFileError, match="key, control_port"):
        connection.parse("c", {n: v for n, v in GOOD.items() if n not in ("key", "control_port")})
    with pytest.raises(ConnectionFileError) as told:
        connection.parse("c", {**GOOD, "key": ["hunter2"]})
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"[" * 50_000, "not JSON"),
        (b" " * 70_000, "longer"),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path, content, told):
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(ConnectionFileError, match=told):
        connection.read(str(path))


def test_what_cannot_be_read_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name, told in (("none", "no connection file"), ("fifo", "regular"), (".", "regular")):
        with pytest.raises(ConnectionFileError, match=told):
            connection.read(str(tmp_path / name))
    for path in (None, "", "a\0b"):
        with pytest.raises(ConnectionFileError):
            connection.read(path)


@given(
    st.dictionaries(
        st.sampled_from([*sorted(GOOD), "curve_publickey", "curve_secretkey"]),
        st.none() | st.integers() | st.text() | st.lists(st.integers()),
    )
)
def test_any_fields_are_a_connection_or_a_clear_error(fields):
    with contextlib.suppress(ConnectionFileError):
        assert connection.parse("c.json", {**GOOD, **fields}).path == "c.json"
