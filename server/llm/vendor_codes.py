"""What the error codes of the vendors mean here. Data.

Vendors use the same numbers for different things, so numbers are kept by the shape of
the body they come in. Names hardly clash; where they do, a backend's own table goes
before this one (``overrides`` of :func:`server.llm.failures.failure_of`).
"""

from typing import Final

from server.llm.base import ErrorClass


def _each(kind: ErrorClass, *codes: str) -> dict[str, ErrorClass]:
    return dict.fromkeys(codes, kind)


NAMES: Final[dict[str, ErrorClass]] = {
    # OpenAI and those who copy it. The type `insufficient_quota` stays the same for all
    # that money can mend.
    **_each(ErrorClass.RATE_LIMIT, "rate_limit_exceeded", "slow_down", "rate_limit_error", "limit_requests"),
    **_each(
        ErrorClass.QUOTA,
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "enforced_spend_limit_reached",
    ),
    **_each(
        ErrorClass.OVERLOADED,
        "server_is_overloaded",
        "overloaded_error",
        "engine_overloaded_error",
        "engine_overloaded",
        "serveroverloaded",
    ),
    **_each(ErrorClass.AUTH, "invalid_api_key", "authentication_error", "permission_error", "account_deactivated"),
    **_each(ErrorClass.CONTEXT, "context_length_exceeded", "request_too_large", "string_above_max_length"),
    **_each(
        ErrorClass.CONTENT,
        "content_filter",
        "content_policy_violation",
        "responsibleaipolicyviolation",
        "invalid_prompt",
    ),
    **_each(ErrorClass.NOT_FOUND, "model_not_found", "not_found_error", "deploymentnotfound"),
    # Gemini's status names.
    **_each(ErrorClass.RATE_LIMIT, "resource_exhausted"),
    **_each(ErrorClass.AUTH, "unauthenticated", "permission_denied", "api_key_invalid"),
    **_each(ErrorClass.TRANSIENT, "unavailable", "deadline_exceeded"),
    # Alibaba Model Studio. The allocation quota is one of tokens per minute.
    **_each(ErrorClass.RATE_LIMIT, "throttling", "limit_burst_rate"),
    **_each(ErrorClass.CONTENT, "datainspectionfailed", "data_inspection_failed"),
    **_each(ErrorClass.QUOTA, "arrearage"),
    **_each(ErrorClass.AUTH, "invalidapikey", "accessdenied"),
    **_each(ErrorClass.NOT_FOUND, "modelnotfound", "model_not_supported"),
    # Moonshot.
    **_each(ErrorClass.AUTH, "invalid_authentication_error", "incorrect_api_key_error"),
    **_each(ErrorClass.RATE_LIMIT, "rate_limit_reached_error"),
    **_each(ErrorClass.QUOTA, "exceeded_current_quota_error"),
    # Volcengine Ark.
    **_each(
        ErrorClass.CONTENT,
        "sensitivecontentdetected",
        "inputtextsensitivecontentdetected",
        "inputimagesensitivecontentdetected",
        "outputtextsensitivecontentdetected",
    ),
    **_each(ErrorClass.AUTH, "authenticationerror"),
    **_each(ErrorClass.QUOTA, "accountoverdueerror", "quotaexceeded", "setlimitexceeded"),
    **_each(ErrorClass.NOT_FOUND, "invalidendpointormodel", "modelnotopen"),
    **_each(ErrorClass.RATE_LIMIT, "ratelimitexceeded", "accountratelimitexceeded"),
    # Baidu Qianfan.
    **_each(ErrorClass.CONTEXT, "characters_too_long", "tokens_too_long"),
    **_each(ErrorClass.CONTENT, "unsafe_request"),
    **_each(ErrorClass.AUTH, "invalid_iam_token"),
    **_each(ErrorClass.NOT_FOUND, "invalid_model"),
    **_each(ErrorClass.RATE_LIMIT, "rpm_rate_limit_exceeded", "tpm_rate_limit_exceeded"),
}
"""Codes and types that are words, in lower case. Of a code with dots, the part in front stands for all that follow."""

_SPARK: Final = {
    **_each(ErrorClass.TRANSIENT, "10008", "10010", "10110", "10222"),
    **_each(ErrorClass.RATE_LIMIT, "10007"),
    **_each(ErrorClass.CONTENT, "10013", "10014", "10019", "10021"),
    **_each(ErrorClass.CONTEXT, "10907"),
    **_each(ErrorClass.AUTH, "11200"),
    **_each(ErrorClass.QUOTA, "11201"),
    **_each(ErrorClass.RATE_LIMIT, "11202", "11203"),
}

NUMBERS: Final[dict[str, dict[str, ErrorClass]]] = {
    # Zhipu and Z.AI: {"error": {"code": "1302", ...}}.
    "error": {
        **_each(ErrorClass.RATE_LIMIT, "1302", "1303"),
        **_each(ErrorClass.OVERLOADED, "1305", "1312"),
        **_each(ErrorClass.QUOTA, "1113", "1304", "1308", "1309", "1310", "1311"),
        **_each(ErrorClass.CONTENT, "1301"),
        **_each(ErrorClass.CONTEXT, "1261"),
        **_each(ErrorClass.AUTH, "1000", "1001", "1002", "1003", "1004", "1110", "1111", "1112", "1121", "1220"),
        **_each(ErrorClass.NOT_FOUND, "1211", "1221", "1222"),
        **_each(ErrorClass.TRANSIENT, "1120", "1234"),
        # Spark's, which have a digit more, come in this shape too.
        **_SPARK,
    },
    # MiniMax: {"base_resp": {"status_code": 1002, ...}}, with HTTP 200.
    "base_resp": {
        **_each(ErrorClass.TRANSIENT, "1000", "1001", "1013"),
        **_each(ErrorClass.RATE_LIMIT, "1002", "1039"),
        **_each(ErrorClass.AUTH, "1004"),
        **_each(ErrorClass.QUOTA, "1008"),
        **_each(ErrorClass.CONTENT, "1026", "1027"),
        **_each(ErrorClass.BAD_REQUEST, "2013"),
    },
    # iFlytek Spark: {"code": 10007, "message": ..., "sid": ...}.
    "sid": _SPARK,
    # The interface of Baidu before Qianfan's second version: {"error_code": 18, "error_msg": ...}.
    "error_code": {
        **_each(ErrorClass.OVERLOADED, "4", "336100"),
        **_each(ErrorClass.QUOTA, "17", "19"),
        **_each(ErrorClass.RATE_LIMIT, "18", "336501", "336502"),
        **_each(ErrorClass.AUTH, "6", "13", "14", "100", "110", "111"),
        **_each(ErrorClass.CONTEXT, "336007", "336103"),
    },
}
"""Codes that are numbers, by the shape of the body (``VendorError.shape``)."""

PHRASES: Final[tuple[tuple[str, ErrorClass], ...]] = (
    ("maximum context length", ErrorClass.CONTEXT),
    ("max_model_len", ErrorClass.CONTEXT),
    ("context length", ErrorClass.CONTEXT),
    ("context window", ErrorClass.CONTEXT),
    ("prompt is too long", ErrorClass.CONTEXT),
    ("exceeded model token limit", ErrorClass.CONTEXT),
    ("exceeds the maximum number of tokens", ErrorClass.CONTEXT),
    ("token length too long", ErrorClass.CONTEXT),
    ("range of input length", ErrorClass.CONTEXT),
    # Both under status 400: xAI, and Gemini.
    ("incorrect api key", ErrorClass.AUTH),
    ("api key not valid", ErrorClass.AUTH),
    ("location is not supported", ErrorClass.AUTH),
    ("insufficient balance", ErrorClass.QUOTA),
    ("balance is insufficient", ErrorClass.QUOTA),
    ("credit balance", ErrorClass.QUOTA),
    ("余额不足", ErrorClass.QUOTA),
    ("欠费", ErrorClass.QUOTA),
    ("in arrears", ErrorClass.QUOTA),
    ("inappropriate content", ErrorClass.CONTENT),
    ("敏感内容", ErrorClass.CONTENT),
)
"""Parts of messages, in lower case, that decide where a refusal has no telling code."""

STATUSES: Final[dict[int, ErrorClass]] = {
    401: ErrorClass.AUTH,
    402: ErrorClass.QUOTA,
    403: ErrorClass.AUTH,
    404: ErrorClass.NOT_FOUND,
    405: ErrorClass.NOT_FOUND,
    408: ErrorClass.TRANSIENT,
    409: ErrorClass.TRANSIENT,
    410: ErrorClass.NOT_FOUND,
    413: ErrorClass.CONTEXT,
    425: ErrorClass.TRANSIENT,
    429: ErrorClass.RATE_LIMIT,
    451: ErrorClass.CONTENT,
    529: ErrorClass.OVERLOADED,
}
"""HTTP statuses, where nothing in the body knew better. Others: 5xx is transient, the rest a bad request."""
