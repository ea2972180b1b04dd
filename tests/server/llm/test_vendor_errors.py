"""What each vendor's refusals mean: every shape and code that is known, as a table.

A row is a preset (whose own table applies), a status, a body as that vendor words it,
and the class. The statuses of rows with 200 are those of bodies in the place of a reply.
"""

import json
from typing import Any, NamedTuple

import pytest

from server.llm.base import ErrorClass, ProviderError
from server.llm.failures import failure_in_stream, failure_of
from server.llm.openai.chunks import ReplyReader
from server.llm.presets import shipped_presets
from tests.server.llm.upstream import piece

NOW = 1_795_351_440.0

TRANSIENT, OVERLOADED, RATE_LIMIT = ErrorClass.TRANSIENT, ErrorClass.OVERLOADED, ErrorClass.RATE_LIMIT
QUOTA, AUTH, CONTENT, CONTEXT = ErrorClass.QUOTA, ErrorClass.AUTH, ErrorClass.CONTENT, ErrorClass.CONTEXT
BAD_REQUEST, NOT_FOUND = ErrorClass.BAD_REQUEST, ErrorClass.NOT_FOUND


class Row(NamedTuple):
    preset: str
    status: int
    body: Any
    kind: ErrorClass


def error(code: object = None, message: str = "…", kind: str | None = None, **more: object) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


OPENAI = [
    Row("openai", 429, error("rate_limit_exceeded", kind="requests"), RATE_LIMIT),
    Row("openai", 429, error("slow_down"), RATE_LIMIT),
    Row("openai", 429, error("credit_balance_exhausted", kind="insufficient_quota"), QUOTA),
    Row("openai", 429, error("organization_spend_limit_exceeded", kind="insufficient_quota"), QUOTA),
    Row("openai", 429, error("project_spend_limit_exceeded", kind="insufficient_quota"), QUOTA),
    Row("openai", 429, error("organization_usage_limit_exceeded", kind="insufficient_quota"), QUOTA),
    Row("openai", 429, error("a_new_word_for_money", kind="insufficient_quota"), QUOTA),
    Row("openai", 503, error("server_is_overloaded"), OVERLOADED),
    Row("openai", 401, error("invalid_api_key"), AUTH),
    Row("openai", 404, error("model_not_found"), NOT_FOUND),
    Row("openai", 400, error("context_length_exceeded"), CONTEXT),
    Row("openai", 400, error("unsupported_value", kind="invalid_request_error"), BAD_REQUEST),
    Row("azure", 400, error("content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), CONTENT),
    Row("azure", 404, error("DeploymentNotFound"), NOT_FOUND),
    Row("azure", 429, error("429", "Requests have exceeded the token rate limit"), RATE_LIMIT),
]

DEEPSEEK = [
    Row("deepseek", 400, error("invalid_request_error"), BAD_REQUEST),
    Row("deepseek", 401, error("invalid_request_error", kind="authentication_error"), AUTH),
    Row("deepseek", 402, error("invalid_request_error", "Insufficient Balance"), QUOTA),
    Row("deepseek", 422, error("invalid_request_error"), BAD_REQUEST),
    Row("deepseek", 429, error(None), RATE_LIMIT),
    Row("deepseek", 500, error(None), TRANSIENT),
    Row("deepseek", 503, error(None), TRANSIENT),
]


def native(code: str) -> dict[str, object]:
    """DashScope's own surface."""
    return {"code": code, "message": "…", "request_id": "r-1"}


DASHSCOPE = [
    Row("dashscope", 429, error("limit_requests"), RATE_LIMIT),
    # The same word is money at OpenAI, and tokens a minute here.
    Row("dashscope", 429, error("insufficient_quota", kind="insufficient_quota"), RATE_LIMIT),
    Row("dashscope_intl", 429, error("insufficient_quota", kind="insufficient_quota"), RATE_LIMIT),
    Row("dashscope", 429, error("limit_burst_rate", "Request rate increased too quickly"), RATE_LIMIT),
    Row("dashscope", 400, error("data_inspection_failed"), CONTENT),
    Row("dashscope", 400, error("Arrearage"), QUOTA),
    Row("dashscope", 400, error("invalid_parameter_error", "Range of input length should be [1, 30720]"), CONTEXT),
    Row("dashscope", 429, native("Throttling.RateQuota"), RATE_LIMIT),
    Row("dashscope", 429, native("Throttling.AllocationQuota"), RATE_LIMIT),
    Row("dashscope", 429, native("Throttling.BurstRate"), RATE_LIMIT),
    Row("dashscope", 400, native("DataInspectionFailed"), CONTENT),
    Row("dashscope", 400, native("Arrearage"), QUOTA),
    Row("dashscope", 401, native("InvalidApiKey"), AUTH),
    Row("dashscope", 403, native("AccessDenied.Unpurchased"), AUTH),
]

ZHIPU = [
    *(Row("zhipu", 429, error(code), RATE_LIMIT) for code in ("1302", "1303")),
    *(Row("zhipu", 429, error(code), OVERLOADED) for code in ("1305", "1312")),
    *(Row("zhipu", 429, error(code), QUOTA) for code in ("1113", "1304", "1308", "1309", "1310", "1311")),
    *(Row("zai", 401, error(code), AUTH) for code in ("1000", "1001", "1002", "1003", "1004")),
    *(Row("zhipu", 429, error(code), AUTH) for code in ("1110", "1111", "1112", "1121", "1220")),
    Row("zhipu", 429, error("1120"), TRANSIENT),
    Row("zhipu", 400, error("1211"), NOT_FOUND),
    Row("zhipu", 400, error("1214"), BAD_REQUEST),
    Row("zhipu", 400, error("1261"), CONTEXT),
    Row("zhipu", 400, error("1301"), CONTENT),
    Row("zhipu", 500, error("1234"), TRANSIENT),
    Row("zhipu", 434, error(None), AUTH),
    Row("zhipu", 435, error(None), CONTEXT),
    Row("openai_style", 434, error(None), BAD_REQUEST),
]

MOONSHOT = [
    Row("moonshot", 400, error(kind="content_filter"), CONTENT),
    Row("moonshot", 400, error(kind="invalid_request_error", message="Input token length too long"), CONTEXT),
    Row(
        "moonshot",
        400,
        error(kind="invalid_request_error", message="Your request exceeded model token limit : 8192"),
        CONTEXT,
    ),
    Row("moonshot", 401, error(kind="invalid_authentication_error"), AUTH),
    Row("moonshot_intl", 401, error(kind="incorrect_api_key_error"), AUTH),
    Row("moonshot", 403, error(kind="permission_denied_error"), QUOTA),
    Row("moonshot", 429, error(kind="engine_overloaded_error"), OVERLOADED),
    Row("moonshot", 429, error(kind="rate_limit_reached_error"), RATE_LIMIT),
    Row("moonshot", 429, error(kind="exceeded_current_quota_error"), QUOTA),
    Row("moonshot", 429, error(kind="rate_limit_error", message="engine is overloaded"), QUOTA),
    Row("openai", 429, error(kind="rate_limit_error"), RATE_LIMIT),
]

VOLCENGINE = [
    Row("volcengine", 400, error("MissingParameter"), BAD_REQUEST),
    Row("volcengine", 400, error("InvalidParameter"), BAD_REQUEST),
    Row("volcengine", 400, error("SensitiveContentDetected"), CONTENT),
    Row("volcengine", 400, error("SensitiveContentDetected.SevereViolation"), CONTENT),
    Row("volcengine", 400, error("InputTextSensitiveContentDetected.PolicyViolation"), CONTENT),
    Row("volcengine", 401, error("AuthenticationError"), AUTH),
    Row("volcengine", 403, error("AccountOverdueError"), QUOTA),
    Row("volcengine", 403, error("AccessDenied"), AUTH),
    Row("volcengine", 404, error("InvalidEndpointOrModel.NotFound"), NOT_FOUND),
    Row("volcengine", 404, error("ModelNotOpen"), NOT_FOUND),
    *(
        Row("volcengine", 429, error(f"RateLimitExceeded.{scope}{unit}Exceeded"), RATE_LIMIT)
        for scope in ("Endpoint", "FoundationModel")
        for unit in ("RPM", "TPM")
    ),
    Row("volcengine", 429, error("ServerOverloaded"), OVERLOADED),
]


def qianfan(code: str, kind: str = "invalid_request_error") -> dict[str, object]:
    return {**error(code, kind=kind), "id": "as-1"}


QIANFAN = [
    Row("qianfan", 400, qianfan("malformed_json"), BAD_REQUEST),
    Row("qianfan", 400, qianfan("invalid_messages"), BAD_REQUEST),
    Row("qianfan", 400, qianfan("invalid_model"), NOT_FOUND),
    Row("qianfan", 400, qianfan("characters_too_long"), CONTEXT),
    Row("qianfan", 400, qianfan("tokens_too_long"), CONTEXT),
    Row("qianfan", 400, qianfan("image_url_unsafe", "unsafe_request"), CONTENT),
    Row("qianfan", 401, qianfan("invalid_iam_token", "access_denied"), AUTH),
    Row("qianfan", 429, qianfan("rpm_rate_limit_exceeded", "rate_limit_exceeded"), RATE_LIMIT),
    Row("qianfan", 429, qianfan("tpm_rate_limit_exceeded", "rate_limit_exceeded"), RATE_LIMIT),
    *(
        Row("qianfan", 200, {"error_code": code, "error_msg": "…"}, kind)
        for code, kind in ((18, RATE_LIMIT), (17, QUOTA), (110, AUTH), (336103, CONTEXT), (336501, RATE_LIMIT))
    ),
]


def minimax(code: int) -> dict[str, object]:
    return {"base_resp": {"status_code": code, "status_msg": "…"}}


MINIMAX = [
    *(Row("minimax", 200, minimax(code), TRANSIENT) for code in (1000, 1001)),
    *(Row("minimax", 200, minimax(code), RATE_LIMIT) for code in (1002, 1039)),
    Row("minimax", 200, minimax(1004), AUTH),
    Row("minimax_intl", 200, minimax(1008), QUOTA),
    *(Row("minimax", 200, minimax(code), CONTENT) for code in (1026, 1027)),
    Row("minimax", 200, minimax(2013), BAD_REQUEST),
]


def spark(code: int) -> dict[str, object]:
    return {"code": code, "message": "…", "sid": "cht000"}


SPARK = [
    *(Row("spark", 200, spark(code), TRANSIENT) for code in (10008, 10010, 10110, 10222)),
    *(Row("spark", 200, spark(code), RATE_LIMIT) for code in (10007, 11202, 11203)),
    *(Row("spark", 200, spark(code), CONTENT) for code in (10013, 10014, 10019, 10021)),
    Row("spark", 200, spark(10907), CONTEXT),
    Row("spark", 403, spark(11200), AUTH),
    Row("spark", 403, spark(11201), QUOTA),
    Row("spark", 400, error("10013"), CONTENT),
]

OTHERS = [
    Row("stepfun", 402, error(kind="quota_exceeded"), QUOTA),
    Row("stepfun", 429, error(kind="rate_limit"), RATE_LIMIT),
    Row("stepfun", 451, error(kind="censorship_blocked"), CONTENT),
    *(Row("stepfun", status, error(None), TRANSIENT) for status in (500, 503, 504)),
    Row("siliconflow", 403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}, QUOTA),
    Row("siliconflow", 403, {"code": 30003, "message": "real-name"}, AUTH),
    Row("siliconflow", 429, {"message": "Request was rejected due to rate limiting. RPM limit reached"}, RATE_LIMIT),
    Row("siliconflow", 503, {"code": 50505, "message": "Model service overloaded"}, OVERLOADED),
    Row("siliconflow_intl", 504, "504 Gateway Timeout", OVERLOADED),
    Row("tencent", 402, error(None), NOT_FOUND),
    Row("tencent_intl", 402, error(None), NOT_FOUND),
    Row("openai_style", 402, error(None), QUOTA),
    Row("xai", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key"}, AUTH),
    Row("mistral", 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "user"]}]}, BAD_REQUEST),
    Row("openrouter", 402, {"error": {"code": 402, "message": "credits"}}, QUOTA),
    Row("ollama", 404, {"error": "model 'x' not found"}, NOT_FOUND),
    Row("vllm", 401, {"error": "Unauthorized"}, AUTH),
    Row("vllm", 404, error(404, "The model `x` does not exist.", "NotFoundError"), NOT_FOUND),
    Row("vllm", 400, error(400, "This model's maximum context length is 512 tokens.", "BadRequestError"), CONTEXT),
    Row("vllm", 400, error(400, "max_tokens must be at least 1", "BadRequestError"), BAD_REQUEST),
    Row("sglang", 400, {"object": "error", "message": "…", "type": "BadRequestError", "code": 400}, BAD_REQUEST),
    Row("llamacpp", 503, error(503, "Loading model", "unavailable_error"), TRANSIENT),
]


def anthropic(kind: str, **more: object) -> dict[str, object]:
    return {"type": "error", "error": {"type": kind, "message": "…", **more}, "request_id": "req_1"}


def gemini(status: int, name: str, *details: dict[str, object]) -> list[dict[str, object]]:
    return [{"error": {"code": status, "message": "…", "status": name, "details": list(details)}}]


def violation(quota: str, value: str = "15") -> dict[str, object]:
    return {"violations": [{"quotaId": quota, "quotaValue": value}]}


NATIVE = [
    Row("anthropic", 400, anthropic("invalid_request_error"), BAD_REQUEST),
    Row("anthropic", 401, anthropic("authentication_error"), AUTH),
    Row("anthropic", 402, anthropic("billing_error"), QUOTA),
    Row("anthropic", 403, anthropic("permission_error"), AUTH),
    Row("anthropic", 404, anthropic("not_found_error"), NOT_FOUND),
    Row("anthropic", 413, anthropic("request_too_large"), CONTEXT),
    Row("anthropic", 429, anthropic("rate_limit_error"), RATE_LIMIT),
    Row("anthropic", 429, anthropic("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}), QUOTA),
    Row("anthropic", 500, anthropic("api_error"), TRANSIENT),
    Row("anthropic", 529, anthropic("overloaded_error"), OVERLOADED),
    Row("gemini", 429, gemini(429, "RESOURCE_EXHAUSTED", violation("RequestsPerMinutePerProject")), RATE_LIMIT),
    Row("gemini", 429, gemini(429, "RESOURCE_EXHAUSTED", violation("RequestsPerDayPerProject")), QUOTA),
    Row("gemini", 429, gemini(429, "RESOURCE_EXHAUSTED", violation("RequestsPerMinute", "0")), QUOTA),
    Row("gemini", 429, gemini(429, "RESOURCE_EXHAUSTED", {"retryDelay": "41000s"}), QUOTA),
    Row("gemini", 500, gemini(500, "INTERNAL"), TRANSIENT),
    Row("gemini", 503, gemini(503, "UNAVAILABLE"), TRANSIENT),
    Row("gemini", 504, gemini(504, "DEADLINE_EXCEEDED"), TRANSIENT),
    Row("gemini", 400, [error("400", "API key not valid. Please pass a valid API key.")], AUTH),
    Row("gemini", 403, gemini(403, "PERMISSION_DENIED")[0], AUTH),
]

PROXIES = [
    Row("openai_style", 502, "<html><body><h1>502 Bad Gateway</h1></body></html>", TRANSIENT),
    Row("openai_style", 403, "<html>denied by the proxy</html>", AUTH),
    Row("openai_style", 429, "", RATE_LIMIT),
    Row("openai_style", 500, "", TRANSIENT),
    Row("openai_style", 408, "", TRANSIENT),
    Row("openai_style", 413, "<html>Request Entity Too Large</html>", CONTEXT),
    Row("openai_style", 520, "", TRANSIENT),
    Row("openai_style", 529, "", OVERLOADED),
]

REFUSALS = [
    *(*OPENAI, *DEEPSEEK, *DASHSCOPE, *ZHIPU, *MOONSHOT, *VOLCENGINE, *QIANFAN, *MINIMAX, *SPARK),
    *(*OTHERS, *NATIVE, *PROXIES),
]


def overrides_of(preset: str) -> dict[str, ErrorClass]:
    side = shipped_presets()[preset].http
    assert side is not None
    return side.errors


def raw(body: object) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()


def named(row: Row) -> str:
    return f"{row.preset}-{row.status}-{str(row.body)[:60]}"


@pytest.mark.parametrize("row", [row for row in REFUSALS if row.status != 200], ids=named)
def test_refusals(row: Row) -> None:
    failure = failure_of(row.status, {}, raw(row.body), now=NOW, overrides=overrides_of(row.preset))
    assert failure.kind is row.kind
    assert failure.status == row.status


IN_THE_PLACE_OF_A_REPLY = [row for row in REFUSALS if row.status == 200]


@pytest.mark.parametrize("row", IN_THE_PLACE_OF_A_REPLY, ids=named)
@pytest.mark.parametrize("begun", [False, True], ids=["as the body", "in the stream"])
def test_errors_with_status_200(row: Row, begun: bool) -> None:
    reader = ReplyReader("m", overrides=overrides_of(row.preset))
    body = piece("半") + b"data: " + raw(row.body) + b"\n\n" if begun else raw(row.body)
    reader.feed(body)
    failing(reader, row.kind)


IN_A_STREAM = [
    Row("dashscope", 0, error("insufficient_quota"), RATE_LIMIT),
    Row("openai", 0, error("insufficient_quota"), QUOTA),
    Row("zhipu", 0, error("1301"), CONTENT),
    Row("openai_style", 0, error(None, "Internal server error", "InternalServerError"), ErrorClass.INCOMPLETE),
    Row("openai_style", 0, {"error": "text"}, ErrorClass.INCOMPLETE),
    Row("openai_style", 0, {"object": "error", "message": "…", "code": 400}, BAD_REQUEST),
    Row("openai_style", 0, {"detail": "…"}, ErrorClass.INCOMPLETE),
    Row("openrouter", 0, {"error": {"code": 429, "message": "…"}, "choices": []}, RATE_LIMIT),
    Row("openrouter", 0, {"error": {"code": 502, "message": "…"}, "choices": []}, ErrorClass.INCOMPLETE),
]


@pytest.mark.parametrize("row", IN_A_STREAM, ids=named)
@pytest.mark.parametrize("done", [b"", b"data: [DONE]\n\n"])
def test_errors_inside_of_a_stream(row: Row, done: bytes) -> None:
    reader = ReplyReader("m", overrides=overrides_of(row.preset))
    reader.feed(piece("半") + b"data: " + raw(row.body) + b"\n\n")
    if reader.failure is None:
        reader.feed(done)
    failing(reader, row.kind)


def failing(reader: ReplyReader, kind: ErrorClass) -> None:
    with pytest.raises(ProviderError) as caught:
        reader.close()
    assert caught.value.kind is kind


def test_an_error_event_is_one_whatever_its_shape() -> None:
    assert failure_in_stream(b"").kind is ErrorClass.INCOMPLETE
    reader = ReplyReader("m")
    reader.feed(b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n')
    failing(reader, OVERLOADED)


def test_codes_of_a_vendor_do_not_reach_another() -> None:
    """The tables are chosen by the shape of the body, so that equal numbers stay apart."""
    as_minimax = failure_in_stream(raw(minimax(1002)))
    as_zhipu = failure_of(401, {}, raw(error("1002")), now=NOW)
    assert (as_minimax.kind, as_zhipu.kind) == (RATE_LIMIT, AUTH)
