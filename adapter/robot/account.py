"""Makes the robots of groups from their settings."""

from adapter.account import Account, Shared
from adapter.backoff import Backoff
from adapter.delivery import Lease
from adapter.rest.secret_address import SecretAddress
from adapter.robot.api import RobotApi
from adapter.robot.courier import RobotCourier
from adapter.robot.pace import RobotPace
from adapter.settings import RobotSettings
from adapter.submission import account_name


def robots(shared: Shared) -> list[Account]:
    """Every robot of the settings."""
    return [_robot(shared, name, robot) for name, robot in shared.settings.robots.items()]


def _robot(shared: Shared, name: str, robot: RobotSettings) -> Account:
    wecom, delivery = shared.settings.wecom, shared.settings.delivery
    courier = RobotCourier(
        RobotApi(
            SecretAddress(shared.session, request_seconds=wecom.request_seconds), base=wecom.api_base, key=robot.key
        ),
        shared.media.sources,
        RobotPace(robot.messages_per_minute),
        shared.metrics,
        style=robot.markdown,
        longest_pause=delivery.retry_seconds,
    )
    lease = Lease(
        shared.client,
        courier,
        shared.metrics,
        account=account_name(name),
        instance=shared.instance,
        door="robot",
        # Everything goes through one line, twenty a minute: what waits does so at the service, where it
        # takes no memory here, keeps its order, and is not cut in two by what is for somebody else.
        max_open=1,
        # The messages of a minute are counted for the robot, so one instance has to send them all.
        exclusive=True,
        ended_only=True,
        backoff=Backoff(0.2, delivery.reconnect_seconds),
    )
    return Account(lease.run, lease.drain)
