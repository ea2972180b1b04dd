"""The body of a request to an OpenAI-style server: a prompt and an endpoint in, JSON out.

Only what the vendor is known to take is sent, under the name it has there and within its
range, and then whatever ``extra_body`` says. Vendors differ in what they do with a field
that they do not know: some ignore it, some refuse the call.
"""

from base64 import b64encode
from collections.abc import Mapping

import msgspec
import structlog

from server.llm.base import Image, Message, Prompt, Role
from server.llm.endpoint import ModelEndpoint
from server.llm.person import vendor_name

_log = structlog.get_logger(__name__)


class OpenAiRequest:
    """Writes the bodies for one endpoint."""

    def __init__(self, endpoint: ModelEndpoint) -> None:
        self._endpoint = endpoint
        self._told: set[str] = set()

    def streamed(self, prompt: Prompt) -> dict[str, object]:
        """What asks for a streamed reply, without ``extra_body``.

        Raises:
            ProviderError: ``BAD_REQUEST`` with the code ``media`` for a picture that the model cannot be shown.
        """
        body = self.parameters(prompt)
        body["messages"] = [self._message(message) for message in prompt.messages]
        body["stream"] = True
        if self._endpoint.side.parameters.stream_options:
            body["stream_options"] = {"include_usage": True}
        body.update(self._endpoint.thinking)
        return body

    def encoded(self, body: Mapping[str, object]) -> bytes:
        """The JSON of a body, with ``extra_body`` over it."""
        return msgspec.json.encode({**body, **self._endpoint.settings.extra_body})

    def parameters(self, prompt: Prompt) -> dict[str, object]:
        """The model and how it is to answer; neither the messages nor what belongs to a stream."""
        known = self._endpoint.side.parameters
        body: dict[str, object] = {"model": self._endpoint.model}
        if prompt.temperature is not None:
            taken = known.temperature.of(prompt.temperature, self._endpoint.model) if known.temperature else None
            if taken is not None:
                body["temperature"] = taken
            if taken != prompt.temperature:
                self._tell("temperature", prompt.temperature, taken)
        if prompt.max_output_tokens is not None:
            cap = known.cap(prompt.max_output_tokens)
            if cap is not None:
                body[known.max_tokens] = cap
            if cap != prompt.max_output_tokens:
                self._tell("max_output_tokens", prompt.max_output_tokens, cap)
        if prompt.user and known.user:
            body[known.user] = vendor_name(prompt.user)
        elif prompt.user:
            self._tell("user", "a pseudonym", None)
        return body

    def _message(self, message: Message) -> dict[str, object]:
        content: object = message.text
        if message.images:
            text = [{"type": "text", "text": message.text}] if message.text else []
            content = [*text, *(self._picture(image) for image in message.images)]
        found: dict[str, object] = {"role": message.role.value, "content": content}
        if message.role is Role.ASSISTANT:
            found.update(self._endpoint.side.assistant_fields)
        return found

    def _picture(self, image: Image) -> dict[str, object]:
        if not self._endpoint.takes_picture(image):
            raise self._endpoint.refusal_of_picture()
        url = f"data:{image.mime_type};base64,{b64encode(image.data).decode()}" if image.data else image.uri
        return {"type": "image_url", "image_url": {"url": url}}

    def _tell(self, parameter: str, wanted: object, sent: object) -> None:
        """Says once what the vendor does not take; it would be said with every call otherwise."""
        if parameter not in self._told:
            self._told.add(parameter)
            _log.debug(
                "llm_parameter_adjusted", model=self._endpoint.name, parameter=parameter, wanted=wanted, sent=sent
            )
