"""Chat templates: how the messages of a prompt become the one text that a model was trained on.

The templates are Jinja, in the dialect that model repositories have settled on. They run
in Jinja's immutable sandbox, where they reach neither attributes of Python nor anything
that they could change. The sandbox bounds no time and no memory: a template that comes
from elsewhere is only to be rendered in a process that can be killed
(:mod:`server.llm.engine.prompt_worker`).

Needs the package ``jinja2`` (``requirements-extras.lock``).
"""

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import jinja2

MAX_RENDERED_CHARACTERS: Final = 2 << 20
"""Characters that a template may make of a prompt."""


class TemplateError(ValueError):
    """A template that cannot be read, refuses the messages, or goes on for too long."""


class ChatTemplate:
    """A template that was read."""

    def __init__(self, source: str, now: Callable[[], datetime.datetime]) -> None:
        """Args: the template; the local time, for templates that tell the model the date.

        Raises:
            TemplateError: if it is no template.
            ImportError: if ``jinja2`` is not installed.
        """
        import jinja2  # optional: only these backends need it

        self._error = jinja2.TemplateError
        environment = _environment()
        environment.globals["strftime_now"] = lambda form: now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise TemplateError(f"the chat template cannot be read: {error}") from None

    def render(self, messages: Sequence[Mapping[str, str]], **variables: object) -> str:
        """The prompt, up to where the model's answer begins.

        Args:
            messages: each with ``role`` and ``content``, oldest first.
            variables: what else templates ask for, such as ``bos_token``.

        Raises:
            TemplateError: if the template refuses, fails, or writes more than ``MAX_RENDERED_CHARACTERS``.
        """
        written: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(
                messages=[dict(message) for message in messages], add_generation_prompt=True, **variables
            ):
                size += len(piece)
                if size > MAX_RENDERED_CHARACTERS:
                    raise TemplateError(f"the chat template writes more than {MAX_RENDERED_CHARACTERS} characters")
                written.append(piece)
        except self._error as error:
            raise TemplateError(f"the chat template refuses: {error}") from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            # What expressions in a template raise when the messages are not what they expect.
            if isinstance(error, TemplateError):
                raise
            raise TemplateError(f"the chat template fails: {type(error).__name__}: {error}") from None
        return "".join(written)


def _environment() -> "jinja2.Environment":
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    import jinja2.parser
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """``{% generation %}`` marks what a model is trained on. Here it is only written."""

        tags: set[str] = {"generation"}  # noqa: RUF012  # declared so by Jinja

        def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, jinja2.ext.loopcontrols],
        cache_size=0,
        autoescape=False,
    )
    # Writes random text, as much as is asked for.
    del environment.globals["lipsum"]
    environment.globals["raise_exception"] = refuse
    environment.filters["tojson"] = _tojson
    return environment


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As model repositories expect it: not escaped for web pages, which Jinja's own filter is."""
    options: dict[str, Any] = {"ensure_ascii": ensure_ascii, "indent": indent, "sort_keys": sort_keys}
    return json.dumps(value, separators=separators, **options)
