"""Who may use an account: every rule, every order, and what nobody can say."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from adapter.access.admission import REFUSALS_PER_MINUTE, Admission, NotAllowed, Undecided
from adapter.access.directory import NotKnown, Tagged
from adapter.access.rules import UNDECIDED, Access, Allowed, Decision, Refused, Unknown
from adapter.metrics import Metrics
from adapter.recently_sent import MemberPace
from adapter.settings import AccessRule
from adapter.translate import Address, Incoming
from weconverse.v1.conversation_pb2 import Content, Sender

USERS = ("ada", "bob", "cyd")
PARENTS = {1: 0, 2: 1, 3: 1, 4: 2, 5: 4}
TAGS = (7, 8)


class Book:
    """A directory that is a few tables. Whoever is in ``away`` cannot be asked about."""

    def __init__(
        self,
        departments: dict[str, int] | None = None,
        tags: dict[int, Tagged] | None = None,
        away: frozenset[str | int] = frozenset(),
    ) -> None:
        self.own = departments or {}
        self.tags = tags or {}
        self.away = away
        self.asked = 0

    async def departments(self, user: str) -> frozenset[int]:
        self.asked += 1
        if user.lower() in self.away:
            raise NotKnown
        return frozenset(above(self.own.get(user.lower(), 0)))

    async def tagged(self, tag: int) -> Tagged:
        self.asked += 1
        if tag in self.away:
            raise NotKnown
        return self.tags.get(tag, Tagged(frozenset(), frozenset()))


def above(department: int) -> set[int]:
    found = set()
    while department:
        found.add(department)
        department = PARENTS[department]
    return found


def access(rules: list[AccessRule], book: Book | None = None, registry: CollectorRegistry | None = None) -> Access:
    metrics = Metrics(registry or CollectorRegistry())
    return Access(rules, book, metrics, account="helper", assistant="default", refusal="不行")


users = st.sampled_from(USERS)
departments = st.sampled_from(sorted(PARENTS))
rules_drawn = st.lists(
    st.builds(
        AccessRule,
        members=st.lists(st.sampled_from([*USERS, "Ada", "BOB"]), max_size=2).map(tuple),
        departments=st.lists(departments, max_size=2).map(tuple),
        tags=st.lists(st.sampled_from(TAGS), max_size=2).map(tuple),
        everyone=st.booleans(),
        assistant=st.sampled_from(["", "hr", "dev"]),
    ),
    max_size=4,
)
books = st.builds(
    Book,
    st.dictionaries(users, departments),
    st.dictionaries(
        st.sampled_from(TAGS),
        st.builds(Tagged, st.frozensets(users, max_size=2), st.frozensets(departments, max_size=2)),
    ),
    st.frozensets(st.sampled_from([*USERS, *TAGS]), max_size=2),
)


def expected(rules: list[AccessRule], book: Book, user: str) -> Decision:
    """The same, the slow way: each rule is yes, no, or nobody knows."""
    if not rules:
        return Allowed("default")
    mine = above(book.own.get(user, 0))
    for rule in rules:
        says: list[bool | None] = [rule.everyone, user in [member.lower() for member in rule.members]]
        if rule.departments:
            says.append(None if user in book.away else bool(mine & set(rule.departments)))
        for tag in rule.tags:
            tagged = book.tags.get(tag, Tagged(frozenset(), frozenset()))
            if tag in book.away:
                says.append(None)
            elif user in tagged.members:
                says.append(True)
            elif tagged.departments and user in book.away:
                says.append(None)
            else:
                says.append(bool(mine & tagged.departments))
        if any(says):
            return Allowed(rule.assistant or "default")
        if None in says:
            return Unknown(UNDECIDED)
    return Refused("不行")


@given(rules_drawn, books, users)
async def test_the_first_rule_that_somebody_is_in_counts(rules: list[AccessRule], book: Book, user: str) -> None:
    assert await access(rules, book).decide(user) == expected(rules, book, user)


async def test_without_rules_everybody_may_and_nobody_is_asked_about() -> None:
    book = Book(away=frozenset(USERS))
    assert await access([], book).decide("ada") == Allowed("default")
    assert book.asked == 0


async def test_members_are_found_in_any_case_and_without_a_directory() -> None:
    rules = [AccessRule(members=("Ada",), assistant="hr"), AccessRule(everyone=True)]
    assert await access(rules).decide("aDA") == Allowed("hr")
    assert await access(rules).decide("bob") == Allowed("default")


async def test_a_department_means_everything_below_it() -> None:
    rules = [AccessRule(departments=(2,))]
    book = Book({"ada": 5, "bob": 3, "cyd": 2})
    assert [type(await access(rules, book).decide(user)) for user in USERS] == [Allowed, Refused, Allowed]


async def test_decisions_are_counted_by_account() -> None:
    registry = CollectorRegistry()
    asked = access([AccessRule(departments=(2,))], Book({"ada": 2}, away=frozenset({"cyd"})), registry)
    for user in USERS:
        await asked.decide(user)
    for result in ("allowed", "refused", "unknown"):
        labels = {"account": "helper", "result": result}
        assert registry.get_sample_value("weconverse_adapter_access_total", labels) == 1


# --- in front of handing over ------------------------------------------------------------


def incoming(user: str = "ada") -> Incoming:
    address = msgspec.json.encode(Address(door="app", user=user))
    return Incoming("conversations/wecom.x.y", "r", Content(), Sender(), address)


class Service:
    def __init__(self) -> None:
        self.taken: list[Incoming] = []

    async def submit(self, message: Incoming, _seconds: float) -> None:
        self.taken.append(message)


async def test_what_is_let_through_goes_to_the_assistant_of_the_rule() -> None:
    service = Service()
    await Admission(access([AccessRule(members=("ada",), assistant="hr")]), service.submit)(incoming(), 1.0)
    assert [message.assistant for message in service.taken] == ["hr"]


async def test_a_refused_message_is_not_handed_over_and_the_person_is_told_a_few_times() -> None:
    service, clock = Service(), [0.0]
    pace = MemberPace(REFUSALS_PER_MINUTE, 1000, lambda: clock[0])
    admission = Admission(access([AccessRule(members=("bob",))]), service.submit, pace)

    async def sentence() -> str:
        with pytest.raises(NotAllowed) as refused:
            await admission(incoming(), 1.0)
        return refused.value.sentence

    assert [await sentence() for _ in range(REFUSALS_PER_MINUTE + 2)] == ["不行"] * REFUSALS_PER_MINUTE + ["", ""]
    clock[0] = 60.0
    assert await sentence() == "不行"
    assert service.taken == []


async def test_of_whom_nobody_knows_is_neither_let_through_nor_refused() -> None:
    service = Service()
    asked = access([AccessRule(departments=(2,))], Book(away=frozenset({"ada"})))
    with pytest.raises(Undecided) as undecided:
        await Admission(asked, service.submit)(incoming(), 1.0)
    assert undecided.value.sentence == UNDECIDED
    assert service.taken == []
