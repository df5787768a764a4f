"""What can go wrong, as types. Each names the boundary that was crossed and the field to mend.

RecollectError
├── ConfigurationError      a setting is wrong: a crash at start, never a default in disguise
├── InvalidRequest  400     the caller's input is wrong
│   ├── ContextTooLong      more tokens than the model's window
│   └── FileTooLarge 413    a file has more bytes than the settings allow
├── Unauthorized    401     no key, or none that is known
├── Forbidden       403     the key may not do that
├── TooManyRequests 429     the key has used what it has, or too many ask at once; try again after `retry_after_s`
├── NotFound        404     no such model, memory, trajectory or adapter
├── Conflict        409     the thing exists already, or is in use
├── StorageFull     507     the disk is full; nothing was acknowledged
├── AnswerTooLong   504     an answer took longer than the settings allow, and was ended
├── EngineError     502     the engine answered with an error
│   └── EngineUnavailable 503  no engine now; try again after `retry_after_s`
├── EmbedderError   502     no vector could be computed
├── AdapterRefused  409     an adapter does not fit, is unchanged, or fails its fingerprint
├── CorruptLog              a line of the trajectory log cannot be read
└── NewerLog                a later version of Recollect wrote a line of the trajectory log
"""

from __future__ import annotations


class RecollectError(Exception):
    """Root of all errors raised on purpose. `param` names the field, `code` is stable for programs."""

    status = 500
    type = "server_error"
    default_code = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code


class ConfigurationError(RecollectError, ValueError):
    default_code = "configuration_error"


class InvalidRequest(RecollectError, ValueError):
    status = 400
    type = "invalid_request_error"
    default_code = "invalid_request"


class ContextTooLong(InvalidRequest):
    """The prompt is `prompt_tokens` long, the window `window_tokens`."""

    default_code = "context_length_exceeded"

    def __init__(self, prompt_tokens: int, window_tokens: int, max_tokens: int = 0) -> None:
        wanted = f" and {max_tokens} tokens of answer were asked for" if max_tokens else ""
        super().__init__(
            f"the prompt has {prompt_tokens} tokens{wanted}, the model's window is {window_tokens}; shorten messages or lower max_tokens",
            param="messages",
        )
        self.prompt_tokens = prompt_tokens
        self.window_tokens = window_tokens


class FileTooLarge(InvalidRequest):
    status = 413
    default_code = "file_too_large"


class Unauthorized(RecollectError):
    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"


class Forbidden(RecollectError):
    """The key lacks `scope`."""

    status = 403
    type = "permission_error"
    default_code = "insufficient_scope"

    def __init__(self, message: str, *, scope: str) -> None:
        super().__init__(message)
        self.scope = scope


class TooManyRequests(RecollectError):
    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: int, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class NotFound(RecollectError, LookupError):
    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class Conflict(RecollectError):
    status = 409
    type = "invalid_request_error"
    default_code = "conflict"


class StorageFull(RecollectError):
    status = 507
    default_code = "storage_full"


class AnswerTooLong(RecollectError):
    status = 504
    default_code = "answer_timeout"


class EngineError(RecollectError):
    status = 502
    default_code = "engine_error"


class EngineUnavailable(EngineError):
    status = 503
    default_code = "engine_unavailable"

    def __init__(self, message: str, *, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EmbedderError(RecollectError):
    status = 502
    default_code = "embedder_error"


class AdapterRefused(RecollectError):
    status = 409
    type = "invalid_request_error"
    default_code = "adapter_refused"


class CorruptLog(RecollectError):
    default_code = "corrupt_log"


class NewerLog(RecollectError):
    default_code = "newer_log"
