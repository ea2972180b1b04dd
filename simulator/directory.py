"""The address book over REST: members, departments and tags, as one application sees them.

DOC 90196 (``user/get``), 90200 (``user/simplelist``), 90208 and 95406 (departments),
90213 and 90216 (tags).
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from simulator.corp import Corp
from simulator.rules import ERRORS, Refused
from simulator.settings import AppSettings, DepartmentSettings, PersonSettings, TagSettings

Question = Callable[[AppSettings, web.Request], dict[str, Any]]

ROOT: Final = 1
"""The department that is the corporation itself."""


class Directory:
    """Answers questions about who is where."""

    def __init__(self, corp: Corp) -> None:
        self._corp = corp
        settings = corp.settings
        self._departments = {department.id: department for department in settings.departments}
        self._tags = {tag.id: tag for tag in settings.tags}

    def routes(
        self, guarded: Callable[[Question], Callable[[web.Request], Awaitable[web.StreamResponse]]]
    ) -> list[web.AbstractRouteDef]:
        """The addresses. ``guarded`` looks at the token and puts accidents and error codes around a question."""
        questions: dict[str, Question] = {
            "user/get": self._member,
            "user/simplelist": self._members,
            "department/list": self._department_list,
            "department/simplelist": self._department_ids,
            "tag/list": self._tag_list,
            "tag/get": self._tag,
        }
        return [web.get(f"/cgi-bin/{name}", guarded(self._struck(question))) for name, question in questions.items()]

    def _struck(self, question: Question) -> Question:
        def struck(app: AppSettings, request: web.Request) -> dict[str, Any]:
            if self._corp.strike("directory_busy"):
                raise Refused(-1)
            if self._corp.strike("directory_limited"):
                raise Refused(45009)
            if self._corp.strike("directory_hidden"):
                raise Refused(60011)
            return {"errcode": 0, "errmsg": ERRORS[0]} | question(app, request)

        return struck

    # --- who is where ---

    def departments_of(self, person: PersonSettings) -> tuple[int, ...]:
        """The departments that a member is in; the corporation itself, if none is named."""
        return person.departments or (ROOT,)

    def below(self, root: int) -> set[int]:
        """A department and all that are below it."""
        found = {root}
        while more := {one.id for one in self._departments.values() if one.parent in found} - found:
            found |= more
        return found

    def _visible(self, app: AppSettings) -> set[int]:
        if not app.visible_departments:
            return set(self._departments)
        return set().union(*(self.below(department) for department in app.visible_departments))

    def _sees(self, app: AppSettings, person: PersonSettings) -> bool:
        return not self._visible(app).isdisjoint(self.departments_of(person))

    # --- questions ---

    def _member(self, app: AppSettings, request: web.Request) -> dict[str, Any]:
        user_id = self._corp.person_named(request.query.get("userid", ""))
        if user_id is None:
            raise Refused(60111)
        person = self._corp.people[user_id]
        if not self._sees(app, person):
            raise Refused(60011)
        departments = list(self.departments_of(person))
        return {
            "userid": person.id,
            "name": person.name,
            "department": departments,
            "order": [0] * len(departments),
            "is_leader_in_dept": [0] * len(departments),
            "main_department": departments[0],
            "position": person.title,
            "status": 1,
            "enable": 1,
        }

    def _members(self, app: AppSettings, request: web.Request) -> dict[str, Any]:
        root = self._department(app, request.query.get("department_id", ""))
        wanted = self.below(root) if request.query.get("fetch_child") == "1" else {root}
        return {
            "userlist": [
                {"userid": person.id, "name": person.name, "department": list(self.departments_of(person))}
                for person in self._corp.people.values()
                if not wanted.isdisjoint(self.departments_of(person)) and self._sees(app, person)
            ]
        }

    def _department(self, app: AppSettings, text: str) -> int:
        department = int(text) if text.isdecimal() else 0
        if department not in self._departments:
            raise Refused(60123)
        if department not in self._visible(app):
            raise Refused(60011)
        return department

    def _listed(self, app: AppSettings, request: web.Request) -> list[DepartmentSettings]:
        wanted = self._visible(app)
        if text := request.query.get("id", ""):
            wanted &= self.below(self._department(app, text))
        return [department for department in self._departments.values() if department.id in wanted]

    def _department_list(self, app: AppSettings, request: web.Request) -> dict[str, Any]:
        return {"department": [_described(one) | {"name": one.name} for one in self._listed(app, request)]}

    def _department_ids(self, app: AppSettings, request: web.Request) -> dict[str, Any]:
        return {"department_id": [_described(one) for one in self._listed(app, request)]}

    def _tag_list(self, _app: AppSettings, _request: web.Request) -> dict[str, Any]:
        return {"taglist": [{"tagid": tag.id, "tagname": tag.name} for tag in self._tags.values()]}

    def _tag(self, app: AppSettings, request: web.Request) -> dict[str, Any]:
        text = request.query.get("tagid", "")
        tag: TagSettings | None = self._tags.get(int(text)) if text.isdecimal() else None
        if tag is None:
            raise Refused(40068)
        people = [self._corp.people[member] for member in tag.members]
        return {
            "tagname": tag.name,
            "userlist": [{"userid": person.id, "name": person.name} for person in people if self._sees(app, person)],
            "partylist": [department for department in tag.departments if department in self._visible(app)],
        }


def _described(department: DepartmentSettings) -> dict[str, Any]:
    return {"id": department.id, "parentid": department.parent, "order": department.id}
