"""A customer's day, between a local WeCom and the real programs: welcomed, answered, served by a person, given back."""

from pathlib import Path

from simulator.app import Simulator
from tests.journey.desk import running_desk

CUSTOMER, PERSON = "wm0000", "zhangwei"


def texts(sim: Simulator) -> list[str]:
    return [bubble.text for bubble in sim.replies(CUSTOMER, "kf")]


async def said(sim: Simulator, count: int) -> list[str]:
    """What the customer was told, once it is so many messages."""
    await sim.wait_for(lambda: len(texts(sim)) >= count, 20)
    assert len(texts(sim)) == count
    return texts(sim)


async def test_a_customer_is_served_by_the_assistant_a_person_and_the_assistant(tmp_path: Path) -> None:
    async with running_desk(tmp_path, customers=1) as desk:
        sim = desk.simulator
        sim.customer_enters(CUSTOMER)
        await said(sim, 1)
        sim.customer_writes(CUSTOMER, "发货了吗")
        assert "您的问题是:发货了吗" in (await said(sim, 2))[-1]
        sim.customer_writes(CUSTOMER, "转人工")
        handed = (await said(sim, 3))[-1]
        assert "您的问题" not in handed
        session = sim.kf.session("wkDesk", CUSTOMER)
        await sim.wait_for(lambda: session.state == 2, 10)
        # Whatever dies, nobody speaks between the customer and the person.
        desk.adapters[0].kill()
        sim.customer_writes(CUSTOMER, "有人吗")
        sim.servicer_takes(PERSON, CUSTOMER)
        sim.servicer_writes(PERSON, CUSTOMER, "我在，马上为您查询")
        sim.customer_writes(CUSTOMER, "好的，谢谢")
        desk.server.kill()
        sim.servicer_ends(PERSON, CUSTOMER)
        sim.customer_writes(CUSTOMER, "还想问一下退货")
        assert "您的问题是:还想问一下退货" in (await said(sim, 4))[-1]
        # Behind it in the line, so that nothing else comes.
        sim.customer_writes(CUSTOMER, "再见")
        assert "您的问题是:再见" in (await said(sim, 5))[-1]
