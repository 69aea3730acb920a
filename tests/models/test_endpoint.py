"""Which model is asked, with whose key: one provider's key never goes to another."""

from pathlib import Path

import pytest

from sandbox_kernel.errors import SettingsError
from sandbox_kernel.models import Model
from sandbox_kernel.models.endpoint import OPENAI_URL, Endpoint, find
from sandbox_kernel.settings import Settings

OURS = {
    "SANDBOX_KERNEL_MODEL": "m",
    "SANDBOX_KERNEL_MODEL_URL": "http://127.0.0.1:11434/v1/",
    "SANDBOX_KERNEL_MODEL_KEY": "sk-ours",
}
THEIRS = {"OPENAI_API_KEY": "sk-theirs", "OPENAI_BASE_URL": "https://proxy.example/v1"}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def found(environ: dict[str, str]) -> Endpoint:
    return find(Settings.load(environ=environ), environ)


def test_ours_are_used_as_they_are(environ):
    at = found(environ | OURS | THEIRS)
    assert at[:3] == ("m", "http://127.0.0.1:11434/v1", "sk-ours")
    assert at.key_source == "environment SANDBOX_KERNEL_MODEL_KEY"


def test_with_neither_of_ours_openais_variables_count(environ):
    at = found(environ | THEIRS | {"SANDBOX_KERNEL_MODEL": "m"})
    assert at[:3] == ("m", "https://proxy.example/v1", "sk-theirs")
    assert at.key_source == "environment OPENAI_API_KEY"


def test_with_an_address_of_ours_openais_key_stays_here(environ):
    at = found(environ | THEIRS | {**OURS, "SANDBOX_KERNEL_MODEL_KEY": ""})
    assert at.key is None
    assert at.key_source == ""


def test_with_a_key_of_ours_it_does_not_go_to_openais_variable(environ):
    at = found(environ | THEIRS | {**OURS, "SANDBOX_KERNEL_MODEL_URL": ""})
    assert at[:3] == ("m", OPENAI_URL, "sk-ours")


def test_without_a_model_the_remedy_is_told(environ):
    with pytest.raises(SettingsError, match="Set SANDBOX_KERNEL_MODEL to its name"):
        found(environ)


def test_openais_own_endpoint_wants_a_key(environ):
    with pytest.raises(SettingsError, match="SANDBOX_KERNEL_MODEL_KEY or OPENAI_API_KEY"):
        found(environ | {"SANDBOX_KERNEL_MODEL": "m"})


def write_file(environ: dict[str, str], mode: int) -> None:
    path = Path(environ["XDG_CONFIG_HOME"]) / "sandbox-kernel" / "settings.toml"
    path.parent.mkdir()
    path.write_text('model = "m"\nmodel_key = "sk-filed"\n')
    path.chmod(mode)


def test_a_settings_file_for_its_owner_alone_may_hold_the_key(environ):
    write_file(environ, 0o600)
    assert found(environ).key == "sk-filed"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_settings_file_for_others_may_not(environ, mode):
    write_file(environ, mode)
    with pytest.raises(SettingsError, match="chmod 600") as told:
        found(environ)
    assert "sk-filed" not in str(told.value)


def test_no_repr_has_the_key(environ):
    settings = Settings.load(environ=environ | OURS)
    model = Model.from_settings(settings)
    for thing in (settings, find(settings), model):
        assert "sk-ours" not in repr(thing)
        assert "sk-ours" not in str(thing)


async def test_what_the_settings_name_is_asked(environ, model_server):
    model_server.script("yes")
    async with Model.from_settings(environ=environ | model_server.environment) as model:
        assert (await model.answer([{"role": "user", "content": "?"}])).text == "yes"
    assert model_server.requests[0].headers["authorization"] == f"Bearer {model_server.key}"


ACCOUNT = {
    "OPENAI_API_KEY": "sk-theirs",
    "OPENAI_ADMIN_KEY": "canary-admin",
    "OPENAI_ORG_ID": "canary-organization",
    "OPENAI_PROJECT_ID": "canary-project",
    "OPENAI_CUSTOM_HEADERS": "X-Gateway: canary-gateway\nAuthorization: Bearer canary-bearer",
}


async def test_what_openais_variables_say_goes_to_no_other_endpoint(
    environ, model_server, monkeypatch
):
    for name, text in ACCOUNT.items():
        monkeypatch.setenv(name, text)
    model_server.script("yes")
    async with Model.from_settings(environ=environ | model_server.environment) as model:
        await model.answer([{"role": "user", "content": "?"}])
    sent = str(model_server.requests[0])
    assert "canary" not in sent
    assert "sk-theirs" not in sent


async def test_it_goes_to_the_endpoint_that_they_name(environ, model_server, monkeypatch):
    """The twin: the same variables, with an endpoint of theirs."""
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, ACCOUNT[name])
    model_server.script("yes")
    theirs = {"OPENAI_API_KEY": model_server.key, "OPENAI_BASE_URL": model_server.base_url}
    named = {"SANDBOX_KERNEL_MODEL": model_server.model}
    async with Model.from_settings(environ=environ | theirs | named) as model:
        await model.answer([{"role": "user", "content": "?"}])
    assert model_server.requests[0].headers["openai-organization"] == "canary-organization"
