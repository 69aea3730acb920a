"""One model behind an OpenAI-compatible chat-completions endpoint: messages in, a reply out.

The answer is streamed: text as it comes, tool calls when they are whole. Everything that can
go wrong is a `ModelUnavailable` in whole sentences (`failures` writes them).

Rule 1: the endpoint is trusted with the conversation and nothing else: what it sends is
        bounded, and its shape is checked before it is used.
Rule 2: `openai` is imported when a model is first made, never earlier.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self

from sandbox_kernel.errors import ExtraMissing
from sandbox_kernel.models import failures
from sandbox_kernel.models.endpoint import OPENAI_URL, Endpoint, find
from sandbox_kernel.models.replies import MALFORMED, Gathered, Json, Reply, ToolCall

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from sandbox_kernel.settings import Settings

__all__ = ["Answers", "Json", "Model", "OnText", "Reply", "ToolCall", "called"]

OnText = Callable[[str], Awaitable[object] | object]


class Answers(Protocol):
    """What a conversation needs of a model; `Model` is one, and a test may bring its own."""

    async def answer(
        self, messages: Sequence[Json], tools: Sequence[Json] = (), *, on_text: OnText | None = None
    ) -> Reply: ...


class Model:
    """One model behind an OpenAI-compatible endpoint. Use it with `async with`, or `close` it.

    One event loop; several tasks may ask at once.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        key: str | None = None,
        timeout_s: float = 300.0,
        retries: int = 2,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            url: base URL ending in /v1; None is api.openai.com.
            key: None for endpoints that want none.
            timeout_s: of one answer, retries included.
            retries: how often a busy or unreachable endpoint is asked again, with growing waits.
            options: more fields of the request: temperature, max_tokens, …

        Raises:
            ExtraMissing: the `openai` package is not installed.
        """
        self._set_up(
            Endpoint(name, url or OPENAI_URL, key, "argument key" if key else ""),
            timeout_s=timeout_s,
            retries=retries,
            options=options,
        )

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        timeout_s: float = 300.0,
        retries: int = 2,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """The model that the settings name; None loads them.

        Raises:
            SettingsError: no model or no key is set, or others may read the key.
            ExtraMissing: the `openai` package is not installed.
        """
        from sandbox_kernel.settings import Settings

        settings = Settings.load(environ=environ) if settings is None else settings
        model = cls.__new__(cls)
        endpoint = find(settings, environ)
        model._set_up(endpoint, timeout_s=timeout_s, retries=retries, options=options)
        return model

    def _set_up(
        self,
        endpoint: Endpoint,
        *,
        timeout_s: float,
        retries: int,
        options: Mapping[str, Any] | None,
    ) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._options = dict(options or {})
        self._client = _client(endpoint, timeout_s, retries)

    @property
    def name(self) -> str:
        return self._endpoint.model

    @property
    def url(self) -> str:
        return self._endpoint.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._endpoint!r}>"

    async def answer(
        self, messages: Sequence[Json], tools: Sequence[Json] = (), *, on_text: OnText | None = None
    ) -> Reply:
        """Send `messages`; stream the text to `on_text`; give the whole.

        Args:
            messages: in the API's form.
            tools: in the API's form too: {"type": "function", "function": {…}}.

        Raises:
            ModelUnavailable: with the reason and the remedy.
            failures.RequestNotTaken: one of these; the endpoint is there, but not for this.
        """
        request: Json = {"model": self.name, "messages": list(messages)}
        if self._options:
            request["extra_body"] = self._options
        if tools:
            request["tools"] = list(tools)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._streamed(request, on_text) or await self._whole(request, on_text)
        except TimeoutError:
            raise failures.late(self._endpoint, self._timeout_s) from None

    async def _streamed(self, request: Json, on_text: OnText | None) -> Reply | None:
        """None when nothing came: some gateways do not stream, and answer a request to in one."""
        gathered = Gathered()
        async with aclosing(self._chunks(request)) as chunks:
            async for chunk in chunks:
                await self._take(gathered, chunk, on_text)
        if gathered.is_empty:
            return None
        if not gathered.finish:
            raise failures.broken_off(self._endpoint)
        return gathered.reply()

    async def _chunks(self, request: Json) -> AsyncGenerator[Any, None]:
        """What the endpoint streams, with its failures translated."""
        import openai

        with self._translating():
            stream = await self._client.chat.completions.create(**request, stream=True)
            try:
                async for chunk in stream:
                    yield chunk
            except openai.APITimeoutError:
                raise
            except openai.APIConnectionError:  # it had answered: it is there
                raise failures.broken_off(self._endpoint) from None
            finally:
                await stream.close()

    async def _whole(self, request: Json, on_text: OnText | None) -> Reply:
        with self._translating():
            answer = await self._client.chat.completions.create(**request)
        gathered = Gathered()
        await self._take(gathered, answer, on_text)
        if gathered.is_empty:
            raise failures.malformed(self._endpoint, "it is empty")
        return gathered.reply()

    async def _take(self, gathered: Gathered, piece: Any, on_text: OnText | None) -> None:
        try:
            text = gathered.take(piece)
        except MALFORMED as error:
            raise failures.translated(error, self._endpoint, self._timeout_s) from None
        if text:
            await called(on_text, text)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        import openai

        try:
            yield
        # Not every malformed answer is an error of `openai`'s own: it parses as it goes.
        except (openai.OpenAIError, *MALFORMED) as error:
            raise failures.translated(error, self._endpoint, self._timeout_s) from None

    async def close(self) -> None:
        """Give its connections back. Safe to call twice."""
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _client(at: Endpoint, timeout_s: float, retries: int) -> AsyncOpenAI:
    try:
        import openai
    except ImportError as error:
        raise ExtraMissing(
            f"Asking a language model needs the package {error.name or 'openai'}, which is not "
            "installed. Install it with: pip install 'sandbox-kernel[ai]'"
        ) from None
    try:
        return openai.AsyncOpenAI(
            base_url=at.url,
            api_key=at.key or _NO_KEY,
            timeout=timeout_s,
            max_retries=retries,
            **({} if at.is_openai_environment else _withheld(openai, at.key or _NO_KEY)),
        )
    except (openai.OpenAIError, ValueError) as error:
        raise failures.translated(error, at, timeout_s) from None


# Servers that want no key look at none; the package insists on one.
_NO_KEY = "none"


def _withheld(openai: Any, key: str) -> Json:
    """`openai` adds what OPENAI_… variables say of the owner's account there: not to others."""
    custom = os.environ.get("OPENAI_CUSTOM_HEADERS", "")
    names = [line.partition(":")[0].strip() for line in custom.split("\n") if ":" in line]
    headers = {name: openai.Omit() for name in ("OpenAI-Organization", "OpenAI-Project", *names)}
    kept = {name: text for name, text in headers.items() if name.lower() != "authorization"}
    return {"default_headers": {**kept, "Authorization": f"Bearer {key}"}}


async def called(callback: Callable[..., Any] | None, *arguments: Any) -> Any:
    """What `callback` returns, whether it is a coroutine function, another one, or None."""
    if callback is None:
        return None
    given = callback(*arguments)
    return await given if inspect.isawaitable(given) else given
