"""From settings to a router, and what an operator is told of it."""

import math
from typing import Any

import msgspec
import pytest

from program.secret import Secret
from server.budget import Budget
from server.llm.base import ErrorClass, Prompt
from server.routing.build import routing
from server.routing.describe import describe
from server.settings import (
    AssistantSettings,
    CallerSettings,
    ClassifierSettings,
    GrpcSettings,
    IntentSettings,
    KeySettings,
    LimitSettings,
    ModelLimitSettings,
    ModelSettings,
    PriceSettings,
    Settings,
    SharedLimitSettings,
    SplitSettings,
    TlsSettings,
)
from tests.server.routing.limit_kit import of_a_model
from tests.server.routing.played import ASKED, Clock, Noted, Played, as_asked, failing, keyed, routed, watch, whole
from tests.server.routing.unlimited import Unlimited

NONE = LimitSettings()


async def test_a_model_without_keys_is_called_without_one() -> None:
    backend, observer = Played(whole()), Noted()
    async with routed({"a": backend}, Clock(), observer=observer) as router:
        assert (await watch(router)).text == "好"
    assert backend.keys == [""]
    assert observer.usable == {"a": 1}


async def test_the_one_key_of_a_model() -> None:
    backend = Played(whole())
    async with routed({"a": backend}, Clock(), models={"a": ModelSettings(api_key=Secret("k"))}) as router:
        await watch(router)
    assert backend.keys == ["k"]


async def test_several_lines_of_a_file_are_several_keys_and_those_of_a_variable_are_not() -> None:
    backend, observer = Played(whole()), Noted()
    several = Secret("k1\nk2\n\nk3", "file:/nonexistent/keys")
    models = {"a": ModelSettings(api_key=several), "b": ModelSettings(api_key=Secret("k1\nk2", "env:KEY"))}
    async with routed({"a": backend, "b": Played(whole())}, Clock(), models=models, observer=observer) as router:
        for _ in range(3):
            await watch(router)
    assert backend.keys == ["k1", "k2", "k3"]
    assert observer.usable == {"a": 3, "b": 1}


async def test_models_that_name_one_account_share_what_is_said_of_it() -> None:
    clock = Clock()
    models = {"a": keyed("k", groups=("account",)), "b": keyed("k", groups=("account",))}
    other = Played(whole())
    async with routed({"a": Played(failing(ErrorClass.QUOTA)), "b": other}, clock, models=models) as router:
        await watch(router, budget=Budget(30, clock))
        shown = await watch(router, Prompt(model="b", messages=ASKED.messages), Budget(30, clock))
    assert shown.error is not None
    assert (shown.error.kind, other.calls) == (ErrorClass.QUOTA, 0)


@pytest.mark.parametrize(
    ("models", "splits", "told"),
    [
        (
            {"a": ModelSettings(api_key=Secret("k"), keys=(KeySettings(secret=Secret("l")),))},
            {},
            "models.a.keys: stands in the place of `api_key`, which is set too; remove one of them",
        ),
        (
            {"a": ModelSettings(keys=(KeySettings(secret=Secret("")),))},
            {},
            "models.a.keys[0].secret: holds no key; put one into it, or remove the entry",
        ),
        (
            {"a": ModelSettings(api_key=Secret("", "env:KEY"))},
            {},
            "models.a.api_key: holds no key; put one into it, or remove the entry",
        ),
        (
            {"a": ModelSettings(api_key=Secret(" \n\n", "file:/keys"))},
            {},
            "models.a.api_key: holds no key; put one into it, or remove the entry",
        ),
        (
            {"a": ModelSettings(api_key=Secret(" "))},
            {},
            "models.a.api_key: holds no key; put one into it, or remove the entry",
        ),
        (
            {"a": ModelSettings(keys=(KeySettings(secret=Secret("\n", "env:KEY")),))},
            {},
            "models.a.keys[0].secret: holds no key; put one into it, or remove the entry",
        ),
        (
            {"a": keyed("k", "l", "k")},
            {},
            "models.a.keys[2].secret: is the key of keys[0] too; remove one of them",
        ),
        (
            {},
            {"mix": SplitSettings(weights={"a": math.nan})},
            "splits.mix.weights.a: must be a finite number, and is nan",
        ),
        (
            {"a": ModelSettings(), "b": ModelSettings()},
            {"mix": SplitSettings(weights={"a": 1.7e308, "b": 1.7e308})},
            "splits.mix.weights: are too large to be added up; use shares such as 95 and 5",
        ),
        (
            {},
            {"mix": SplitSettings(weights={"a": 0.0})},
            "splits.mix.weights: must have a model with a weight above 0; add one",
        ),
        (
            {},
            {"mix": SplitSettings(weights={"nobody": 1.0})},
            "splits.mix.weights: there is no model 'nobody'; models are a",
        ),
    ],
)
async def test_settings_that_cannot_work(
    models: dict[str, ModelSettings], splits: dict[str, SplitSettings], told: str
) -> None:
    with pytest.raises(ValueError, match=r".+: .+") as caught:
        async with routed({name: Played(whole()) for name in models or "a"}, Clock(), models=models, splits=splits):
            pass
    assert str(caught.value) == told
    with pytest.raises(ValueError, match=r".+: .+") as checked:
        list(describe(Settings(models=models or {"a": ModelSettings()}, splits=splits)))
    assert str(checked.value) == told, "a check before the start says the same"


CALLERS = GrpcSettings(callers=(CallerSettings(name="crm", token_sha256=("0" * 64,)),))
BY_CERTIFICATE = msgspec.structs.replace(CALLERS, tls=TlsSettings(client_ca_file="ca.pem"))
OF_A_STRANGER = SharedLimitSettings(callers={"cmr": LimitSettings()})


def assistant(**fields: Any) -> dict[str, AssistantSettings]:
    return {"default": AssistantSettings(**fields)}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"assistants": assistant(intents={"i": IntentSettings(min_characters=9, max_characters=8)})},
            "assistants.default.intents.i.min_characters: is above max_characters (8), so that nothing fits both",
        ),
        (
            {"assistants": assistant(intents={"i": IntentSettings(min_characters=5000)})},
            "assistants.default.intents.i.min_characters: must be at most 4000, which is what rules look at",
        ),
        (
            {
                "assistants": assistant(
                    intents={"i": IntentSettings(words=("x",))}, classifier=ClassifierSettings(model="default")
                )
            },
            "assistants.default.classifier.model: has nothing to choose, because no intent of the assistant has a "
            "`description`; give one to each that it may choose, or name no classifier",
        ),
        (
            {"limits": SharedLimitSettings(quota_groups={"acount": LimitSettings()})},
            "limits.quota_groups.acount: no key is of this quota group; groups are models.default",
        ),
        (
            {"grpc": CALLERS, "limits": OF_A_STRANGER},
            "limits.callers.cmr: there is no such caller in grpc.callers; there are crm",
        ),
        ({"limits": OF_A_STRANGER}, ""),
        ({"grpc": BY_CERTIFICATE, "limits": OF_A_STRANGER}, ""),
    ],
)
async def test_settings_that_do_not_go_together(fields: dict[str, Any], told: str) -> None:
    settings = Settings(**fields)
    if not told:
        assert list(describe(settings))
        return
    with pytest.raises(ValueError, match=r".+: .+") as caught:
        list(describe(settings))
    assert str(caught.value) == told
    with pytest.raises(ValueError, match=r".+: .+") as started:
        async with routing(settings, {}, Unlimited(), Noted(), takes={}, most_output={}):
            pass
    assert str(started.value) == told


CAP = LimitSettings(spending_per_day=1.0)


@pytest.mark.parametrize(
    ("limits", "own", "field"),
    [
        (SharedLimitSettings(person=CAP), NONE, "limits.person"),
        (SharedLimitSettings(caller=CAP), NONE, "limits.caller"),
        (SharedLimitSettings(callers={"crm": CAP}), NONE, "limits.callers.crm"),
        (SharedLimitSettings(total=CAP), NONE, "limits.total"),
        (SharedLimitSettings(quota_groups={"account": CAP}), NONE, "limits.quota_groups.account"),
        (SharedLimitSettings(quota_groups={"models.b": CAP}), NONE, None),
        (SharedLimitSettings(), CAP, "models.a.limits"),
        (SharedLimitSettings(), NONE, None),
    ],
)
def test_a_cap_on_spending_needs_the_price_of_what_it_is_over(
    limits: SharedLimitSettings, own: LimitSettings, field: str | None
) -> None:
    priced, scripted = ModelSettings(price=PriceSettings(input=1.0)), ModelSettings(protocol="scripted")

    def told(price: PriceSettings | None) -> list[str]:
        models = {"a": keyed("k", groups=("account",), price=price, limits=of_a_model(own)), "b": priced, "c": scripted}
        return list(describe(Settings(models=models, limits=limits)))

    if field is None:
        told(None)
    else:
        with pytest.raises(ValueError, match=r"set models\.a\.price") as caught:
            told(None)
        assert str(caught.value).startswith(f"{field}.spending_per_day: ")
    told(PriceSettings())


async def test_a_start_refuses_it_too() -> None:
    settings = Settings(models={"a": keyed("k")}, limits=SharedLimitSettings(total=CAP))
    with pytest.raises(ValueError, match=r"^limits\.total\.spending_per_day: "):
        async with routing(
            settings, {"a": Played(whole())}, Unlimited(), Noted(), takes={"a": bool}, most_output={"a": as_asked}
        ):
            pass


def test_what_an_operator_is_told() -> None:
    settings = Settings(
        assistants={
            "default": AssistantSettings(
                model="mix",
                fallback_models=("backup",),
                intents={
                    "creative": IntentSettings(models=("poet", "mix"), description="…"),
                    "other": IntentSettings(),
                },
                classifier=ClassifierSettings(model="small"),
            )
        },
        models={
            "stable": keyed("one", "two", groups=("x", "y")),
            "canary": ModelSettings(api_key=Secret("k1\nk2", "file:/keys")),
            "backup": ModelSettings(
                price=PriceSettings(),
                max_attempts=1,
                limits=ModelLimitSettings(concurrent_calls=4, spending_per_day=0.5),
            ),
            "poet": ModelSettings(api_key=Secret("k"), limits=ModelLimitSettings(requests_per_minute=0)),
            "small": ModelSettings(),
            "unused": ModelSettings(),
        },
        splits={"mix": SplitSettings(weights={"stable": 95.0, "canary": 5.0})},
    )
    assert list(describe(settings)) == [
        "would answer as assistants/default with mix (stable 95.0%, canary 5.0%), then backup",
        "would answer assistants/default, intent creative, with poet, then mix (stable 95.0%, canary 5.0%)",
        "would ask small for the intents of assistants/default that no rule chooses",
        "would call models/stable with 2 keys of 2 quota groups, up to 3 times a turn",
        "would call models/canary with 2 keys of 1 quota group, up to 3 times a turn",
        "would call models/backup with no key, up to 1 time a turn",
        "would call models/poet with 1 key of 1 quota group, up to 3 times a turn",
        "would call models/small with no key, up to 3 times a turn",
        "would hold models/stable to 50 requests per minute",
        "would hold models/canary to 50 requests per minute",
        "would hold models/backup to 50 requests per minute, 4 concurrent calls, spending of 0.5 per day",
        "would hold models/poet to no limit",
        "would hold models/small to 50 requests per minute",
        "would hold models/unused to 50 requests per minute",
    ]
