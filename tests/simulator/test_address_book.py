"""The address book over REST, read by wechatpy's client, which nobody here wrote; and the console's changes of secrets.

wechatpy is synchronous, so its calls run beside the loop.
"""

import asyncio

import pytest
from wechatpy.enterprise import WeChatClient
from wechatpy.exceptions import WeChatClientException

from simulator.settings import AppSettings, DepartmentSettings, PersonSettings, TagSettings

TREE = {
    "departments": (
        DepartmentSettings(id=1, name="公司", parent=0),
        DepartmentSettings(id=2, name="研发部"),
        DepartmentSettings(id=3, name="后端", parent=2),
        DepartmentSettings(id=5, name="市场部"),
    ),
    "people": (
        PersonSettings(id="ChenJie", name="陈杰", departments=(3, 5)),
        PersonSettings(id="lina", name="李娜", departments=(5,)),
        PersonSettings(id="boss", name="老板"),
    ),
    "tags": (TagSettings(id=7, name="试点", members=("ChenJie",), departments=(2, 5)),),
}


class Reader:
    def __init__(self, sim):
        class Client(WeChatClient):
            API_BASE_URL = f"{sim.rest_base}/cgi-bin/"

            def fetch_access_token(self):
                params = {"corpid": self.corp_id, "corpsecret": self.secret}
                return self._fetch_access_token(f"{self.API_BASE_URL}gettoken", params)

        self.client = Client(sim.settings.corp_id, sim.settings.apps[0].secret.reveal())

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.client._http.close()

    async def ask(self, path, *arguments, **more):
        call = self.client
        for name in path.split("."):
            call = getattr(call, name)
        return await asyncio.to_thread(call, *arguments, **more)

    async def code(self, path, *arguments):
        with pytest.raises(WeChatClientException) as refused:
            await self.ask(path, *arguments)
        return refused.value.errcode


async def test_a_whole_corporation_is_seen(simulator):
    async with simulator(**TREE) as sim, Reader(sim) as book:
        member = await book.ask("user.get", "chenjie")
        assert (member["userid"], member["name"], member["department"]) == ("ChenJie", "陈杰", [3, 5])
        assert (await book.ask("user.get", "boss"))["department"] == [1]
        assert {one["id"]: one["parentid"] for one in await book.ask("department.get")} == {1: 0, 2: 1, 3: 2, 5: 1}
        assert {one["id"] for one in await book.ask("department.get", 2)} == {2, 3}
        assert [one["userid"] for one in await book.ask("department.get_users", 2)] == []
        below = await book.ask("department.get_users", 1, fetch_child=1)
        assert [one["userid"] for one in below] == ["ChenJie", "lina", "boss"]
        assert [(one["tagid"], one["tagname"]) for one in await book.ask("tag.list")] == [(7, "试点")]
        tag = await book.ask("tag.get_users", 7)
        assert ([one["userid"] for one in tag["userlist"]], tag["partylist"]) == (["ChenJie"], [2, 5])


async def test_what_is_not_there_has_codes_of_its_own(simulator):
    async with simulator(**TREE) as sim, Reader(sim) as book:
        assert await book.code("user.get", "stranger") == 60111
        assert await book.code("department.get", 99) == 60123
        assert await book.code("tag.get_users", 99) == 40068
        sim.tokens.expire()
        book.client.session.set(book.client.access_token_key, "no token", 60)
        assert (await book.ask("user.get", "lina"))["department"] == [5]  # with a token of its own


async def test_an_application_sees_its_visible_part(simulator):
    apps = (AppSettings(visible_departments=(5,)),)
    async with simulator(apps=apps, **TREE) as sim, Reader(sim) as book:
        assert (await book.ask("user.get", "lina"))["userid"] == "lina"
        assert await book.code("user.get", "boss") == 60011
        assert await book.code("department.get", 2) == 60011
        assert [one["id"] for one in await book.ask("department.get")] == [5]
        tag = await book.ask("tag.get_users", 7)
        assert ([one["userid"] for one in tag["userlist"]], tag["partylist"]) == (["ChenJie"], [5])


@pytest.mark.parametrize(
    ("fault", "code"), [("directory_busy", -1), ("directory_limited", 45009), ("directory_hidden", 60011)]
)
async def test_the_address_book_has_accidents_of_its_own(simulator, fault, code):
    async with simulator(**TREE) as sim, Reader(sim) as book:
        sim.faults.once(fault)
        assert await book.code("user.get", "lina") == code
        assert (await book.ask("user.get", "lina"))["userid"] == "lina"


async def test_callback_addresses_are_those_of_the_settings(simulator):
    async with simulator(callback_addresses=("101.226.103.*", "10.0.0.0/8")) as sim, Reader(sim) as book:
        assert await book.ask("misc.get_wechat_ips") == ["101.226.103.*", "10.0.0.0/8"]


async def test_a_new_secret_ends_the_old_one_and_its_token(simulator, api, session):
    async with simulator() as sim:
        caller = api(sim)
        old = (await caller.token())["access_token"]
        sim.change_app_secret("a-new-secret")
        assert (await caller.token())["errcode"] == 40001
        assert (await caller.post("message/send", {}, token=old))["errcode"] == 42001
        new = (await caller.token("a-new-secret"))["access_token"]
        assert new != old


async def test_a_new_secret_of_a_bot_counts_for_the_next_subscription(simulator, connect):
    async with simulator() as sim:
        sim.change_bot_secret("a-new-secret")
        client = await connect(sim)
        assert (await client.subscribe())["errcode"] == 853000
        assert (await client.subscribe("a-new-secret"))["errcode"] == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"departments": (DepartmentSettings(id=1, name="公司", parent=9),), "people": TREE["people"][2:]}, "parent"),
        ({"people": (PersonSettings(id="x", name="x", departments=(9,)),)}, "people[0].departments"),
        ({"tags": (TagSettings(id=1, name="x", members=("nobody",)),)}, "tags[0].members"),
        ({"tags": (TagSettings(id=1, name="x", departments=(9,)),)}, "tags[0].departments"),
        ({"apps": (AppSettings(visible_departments=(9,)),)}, "apps[0].visible_departments"),
    ],
)
async def test_what_contradicts_itself_is_named(simulator, changes, field):
    with pytest.raises(Exception, match="is not among") as wrong:
        async with simulator(**changes):
            pass
    assert field in str(wrong.value)
