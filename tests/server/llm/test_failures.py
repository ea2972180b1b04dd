"""What an answer that is no reply means: code before words before status."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.llm.base import ErrorClass
from server.llm.failures import MAX_SAID, failure_in_stream, failure_of
from server.llm.retry_hints import retry_after
from tests.server.llm import recording

NOW = 1_795_351_440.0
"""Sun, 22 Nov 2026 12:44:00 GMT."""


@pytest.mark.parametrize(
    ("name", "kind", "code", "wait"),
    [
        ("llmock_openai_401", ErrorClass.AUTH, "invalid_api_key", None),
        ("llmock_openai_503", ErrorClass.TRANSIENT, "service_unavailable", 1.0),
        ("aimock_openai_429", ErrorClass.RATE_LIMIT, "rate_limit_exceeded", 1.0),
        ("aimock_anthropic_429", ErrorClass.RATE_LIMIT, "rate_limit_error", 1.0),
        ("llmock_anthropic_529", ErrorClass.OVERLOADED, "overloaded_error", 1.0),
        ("vllm_err_badjson_400", ErrorClass.BAD_REQUEST, "400", None),
        ("vllm_err_ctx_400", ErrorClass.CONTEXT, "400", None),
        ("vllm_err_model_404", ErrorClass.NOT_FOUND, "404", None),
    ],
)
def test_recorded_refusals(name: str, kind: ErrorClass, code: str, wait: float | None) -> None:
    recorded = recording.load(name)
    error = failure_of(recorded.status, recorded.headers, recorded.body, now=NOW)
    assert (error.kind, error.code, error.retry_after, error.status) == (kind, code, wait, recorded.status)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, {"error": {"code": "credit_balance_exhausted", "type": "insufficient_quota"}}, ErrorClass.QUOTA),
        (429, {"error": {"code": "slow_down"}}, ErrorClass.RATE_LIMIT),
        (503, {"error": {"code": "server_is_overloaded"}}, ErrorClass.OVERLOADED),
        (429, {"error": {"code": "1302", "message": "并发"}}, ErrorClass.RATE_LIMIT),
        (429, {"error": {"code": "1113", "message": "欠费"}}, ErrorClass.QUOTA),
        (429, {"error": {"code": "1305"}}, ErrorClass.OVERLOADED),
        (400, {"error": {"code": "1301"}}, ErrorClass.CONTENT),
        (400, {"error": {"code": "1261"}}, ErrorClass.CONTEXT),
        (400, {"error": {"code": "data_inspection_failed"}}, ErrorClass.CONTENT),
        (429, {"code": "Throttling.AllocationQuota", "message": "x", "request_id": "y"}, ErrorClass.RATE_LIMIT),
        (400, {"code": "Arrearage", "message": "x"}, ErrorClass.QUOTA),
        (403, {"error": {"code": "AccountOverdueError"}}, ErrorClass.QUOTA),
        (400, {"error": {"code": "tokens_too_long", "type": "invalid_request_error"}, "id": "x"}, ErrorClass.CONTEXT),
        (429, {"error": {"type": "exceeded_current_quota_error"}}, ErrorClass.QUOTA),
        (429, {"error": {"type": "engine_overloaded_error"}}, ErrorClass.OVERLOADED),
        (
            429,
            {"error": {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}},
            ErrorClass.QUOTA,
        ),
        (400, {"error": "this model's maximum context length is 4096"}, ErrorClass.CONTEXT),
        (402, {"error": {"message": "Insufficient Balance"}}, ErrorClass.QUOTA),
        (403, {"error": {"message": "余额不足"}}, ErrorClass.QUOTA),
        (403, {"error": {"message": "no"}}, ErrorClass.AUTH),
        (401, {"error": "Unauthorized"}, ErrorClass.AUTH),
        (451, {}, ErrorClass.CONTENT),
        (413, None, ErrorClass.CONTEXT),
        (422, {"detail": [{"msg": "field required"}]}, ErrorClass.BAD_REQUEST),
        (404, {"detail": "Not Found"}, ErrorClass.NOT_FOUND),
        (408, None, ErrorClass.TRANSIENT),
        (500, {"error": {"message": "context length bug"}}, ErrorClass.TRANSIENT),
        (502, "<html>\n  Bad Gateway</html>", ErrorClass.TRANSIENT),
        (524, "", ErrorClass.TRANSIENT),
        (435, {}, ErrorClass.BAD_REQUEST),
    ],
)  # fmt: skip
def test_refusals(status: int, body: object, kind: ErrorClass) -> None:
    raw = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
    assert failure_of(status, {}, raw, now=NOW).kind is kind


def test_gemini_says_how_long_and_whether_the_day_is_over() -> None:
    def body(quota: str) -> bytes:
        details = [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"},
        ]
        return json.dumps([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}]).encode()

    minute = failure_of(429, {}, body("GenerateRequestsPerMinute"), now=NOW)
    assert (minute.kind, minute.retry_after) == (ErrorClass.RATE_LIMIT, 37.5)
    assert failure_of(429, {}, body("GenerateRequestsPerDay"), now=NOW).kind is ErrorClass.QUOTA


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"x-ms-retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "Sun, 22 Nov 2026 12:44:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 12:43:30 GMT"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "word", "kind"),
    [
        (500, "false", ErrorClass.BAD_REQUEST),
        (429, "false", ErrorClass.QUOTA),
        (400, "true", ErrorClass.TRANSIENT),
        (401, "true", ErrorClass.AUTH),
        (500, "maybe", ErrorClass.TRANSIENT),
    ],
)
def test_the_backend_has_the_last_word_on_a_second_attempt(status: int, word: str, kind: ErrorClass) -> None:
    assert failure_of(status, {"x-should-retry": word}, b"", now=NOW).kind is kind


def test_a_backend_may_have_a_table_of_its_own() -> None:
    body = b'{"error":{"code":"insufficient_quota"}}'
    assert failure_of(429, {}, body, now=NOW).kind is ErrorClass.QUOTA
    mild = {"insufficient_quota": ErrorClass.RATE_LIMIT}
    assert failure_of(429, {}, body, now=NOW, overrides=mild).kind is ErrorClass.RATE_LIMIT


def test_details_are_short() -> None:
    assert len(failure_of(500, {}, b"x" * 100_000, now=NOW).said) == MAX_SAID
    assert len(failure_in_stream(json.dumps({"error": "x" * 100_000}).encode()).said) == MAX_SAID


@given(
    st.integers(300, 599), st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), st.text()), st.binary()
)
def test_no_answer_raises(status: int, headers: dict[str, str], body: bytes) -> None:
    error = failure_of(status, headers, body, now=NOW)
    assert error.retry_after is None or error.retry_after >= 0
