"""What the `openai` package raises, as sentences with a remedy. The only file that knows it.

Rule: what an endpoint said is shown within a bound, printable, and without our key in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox_kernel.errors import ModelUnavailable

if TYPE_CHECKING:
    from sandbox_kernel.models.endpoint import Endpoint

MAX_SAID = 300


def translated(error: Exception, at: Endpoint, timeout_s: float) -> ModelUnavailable:
    """What to raise in place of `error`."""
    import openai

    match error:
        case openai.APITimeoutError() | TimeoutError():
            return late(at, timeout_s)
        case openai.APIConnectionError():
            cause = said(str(error.__cause__ or ""), at)
            return ModelUnavailable(
                f"The model's endpoint {at.url} cannot be reached{_because(cause)}. Start it, "
                "or correct model_url (SANDBOX_KERNEL_MODEL_URL)."
            )
        case openai.APIStatusError():
            return _of_status(error.status_code, error, at)
        case openai.APIError():  # an error within a stream
            return ModelUnavailable(
                f"The model {at.model} broke off{_because(_message(error, at))}. Ask again."
            )
    # These are said in words of Python, which help nobody.
    is_told = not isinstance(error, AttributeError | LookupError | RecursionError)
    return malformed(at, str(error) if is_told else "it has another form")


def late(at: Endpoint, timeout_s: float) -> ModelUnavailable:
    return ModelUnavailable(
        f"The model {at.model} at {at.url} did not answer within {timeout_s:g} s. Ask again, "
        "ask for less, or allow it more time."
    )


def malformed(at: Endpoint, detail: str = "") -> ModelUnavailable:
    return ModelUnavailable(
        f"What {at.url} answered is not a chat completion{_because(said(detail, at))}. "
        "Correct model_url: it mostly ends in /v1."
    )


def broken_off(at: Endpoint) -> ModelUnavailable:
    return ModelUnavailable(
        f"The connection to {at.url} broke in the middle of an answer. Ask again."
    )


def _of_status(status: int, error: Any, at: Endpoint) -> ModelUnavailable:
    reason = _because(_message(error, at))
    match status:
        case 401 | 403:
            key = f"the key from the {at.key_source}" if at.key else "a request without a key"
            return ModelUnavailable(
                f"{at.url} refused {key}{reason}. Correct model_key (SANDBOX_KERNEL_MODEL_KEY)."
            )
        case 404:
            return ModelUnavailable(
                f"{at.url} has no model {at.model}{reason}. Correct model or model_url."
            )
        case 429:
            return ModelUnavailable(
                f"{at.url} takes no more requests for now{reason}. Wait, or look at your quota."
            )
        case _ if status >= 500:
            return ModelUnavailable(
                f"{at.url} failed with status {status}{reason}. Ask again later."
            )
    return RequestNotTaken(
        f"The model {at.model} at {at.url} did not take the request (status {status}){reason}. "
        "Correct the request, or choose another model."
    )


class RequestNotTaken(ModelUnavailable):
    """The endpoint understood us and will not: tools it hasn't got, a history too long."""


def _message(error: Any, at: Endpoint) -> str:
    """The endpoint's own words: the body's message, else the exception's."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return said(body["message"], at)
    return said(str(error.message), at)


def said(text: str, at: Endpoint) -> str:
    if at.key:
        text = text.replace(at.key, "…")
    text = "".join(c if c.isprintable() else " " for c in text[: 4 * MAX_SAID])
    text = " ".join(text.split())
    return text if len(text) <= MAX_SAID else text[:MAX_SAID] + "…"


def _because(text: str) -> str:
    return f": {text.rstrip('.')}" if text else ""
