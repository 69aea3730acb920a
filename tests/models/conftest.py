import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from sandbox_kernel.models import Model
from tests.support.model_server import ModelServer, model_server

__all__ = ["model_server"]


@pytest.fixture(autouse=True)
def _nobodys_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine's owner set for their own models is not what is tested here."""
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


Open = Callable[..., Model]


@pytest.fixture
async def open_model(model_server: ModelServer) -> AsyncIterator[Open]:
    """`open_model(url=…, key=…, retries=0)` gives a `Model` of the scripted server."""
    models: list[Model] = []

    def open_it(name: str = "", **options: Any) -> Model:
        chosen = {"url": model_server.base_url, "key": model_server.key, "retries": 0, **options}
        models.append(Model(name or model_server.model, **chosen))
        return models[-1]

    yield open_it
    for model in models:
        await model.close()


@pytest.fixture
def model(open_model: Open) -> Model:
    return open_model()
