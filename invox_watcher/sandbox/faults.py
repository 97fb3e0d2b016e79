"""The faults a sandbox can be asked for over `POST /sandbox/faults`, and which request meets which fault.

    {"on": "upload", "do": "status", "status": 503, "retry_after": 2, "times": 3, "after": 1}

`on` is the operation, `times` for how many requests the fault lasts (null: forever), `after` how many it
lets pass first. A request goes to the first fault that neither lets it pass nor is used up. With "webhook"
for `on` it is the same with the webhooks that the sandbox sends.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, overload

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, TypeAdapter

from invox_watcher.sandbox.oddities import Kind

Operation = Literal["token", "presign", "upload", "status"]
_Webhook = Literal["webhook"]


class _Fault(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    on: Operation | _Webhook
    times: PositiveInt | None = 1
    after: NonNegativeInt = 0


class _CallFault(_Fault):
    on: Operation


class Status(_CallFault):
    """This HTTP status; without `body`, an error in the operation's form. `retry_after` is sent as it is."""

    do: Literal["status"]
    status: int = Field(ge=200, le=599)
    body: str | dict[str, Any] | None = None
    content_type: str | None = None
    retry_after: str | int | float | None = None


class Html(_CallFault):
    """200 with an HTML page, as a captive portal or a proxy answers."""

    do: Literal["html"]


class Redirect(_CallFault):
    """A redirection to `location`."""

    do: Literal["redirect"]
    status: Literal[301, 302, 303, 307, 308] = 302
    location: str


class Huge(_CallFault):
    """200 with well-formed JSON of that many bytes, its length not declared."""

    do: Literal["huge"]
    bytes: int = Field(ge=100)


class Reset(_CallFault):
    """The connection is reset (RST) as soon as the request's head is in."""

    do: Literal["reset"]


class CloseAfterBytes(_CallFault):
    """The connection is reset after that many bytes of the upload."""

    do: Literal["close_after_bytes"]
    on: Literal["upload"]
    bytes: NonNegativeInt


class Silence(_CallFault):
    """No answer until the client leaves, or a reset after `seconds`. The body is read, nothing is done."""

    do: Literal["silence"]
    seconds: NonNegativeFloat | None = None


class Latency(_Fault):
    """The normal answer, but the request is processed only after `seconds`; a webhook as late."""

    do: Literal["latency"]
    seconds: NonNegativeFloat


class DropReply(_CallFault):
    """Everything is done as normal, but instead of the answer comes a reset."""

    do: Literal["drop_reply"]


class StatusInstead(_CallFault):
    """Everything is done as normal, but the answer is this status, without a body."""

    do: Literal["status_instead"]
    status: int = Field(ge=200, le=599)


class Interim(_CallFault):
    """The normal answer, after an informational one of this status."""

    do: Literal["interim"]
    status: Literal[102, 103] = 102


class SlowBytes(_CallFault):
    """The normal answer at one byte each `seconds`: its body, or with `part` `all` its head as well."""

    do: Literal["slow_bytes"]
    seconds: NonNegativeFloat
    part: Literal["body", "all"] = "body"


class Truncate(_CallFault):
    """Half of the normal answer's body, then the end; `declared` says whose length the head gives."""

    do: Literal["truncate"]
    declared: Literal["whole", "half"] = "whole"


class MissingField(_CallFault):
    """The normal answer without this field of its JSON object."""

    do: Literal["missing_field"]
    field: str


class UnknownStatus(_CallFault):
    """The normal answer with a state that the vendor's pages don't know."""

    do: Literal["unknown_status"]
    on: Literal["status"]
    value: str = "ON_HOLD"


class OddResult(_CallFault):
    """The normal answer; one with words in an odd form, with all of them."""

    do: Literal["odd_result"]
    on: Literal["status"]
    kind: Kind


class DenyAcknowledged(_CallFault):
    """404 about a request whose upload storage has acknowledged; about any other the normal answer."""

    do: Literal["deny_acknowledged"]
    on: Literal["status"]


class ErrorResult(_Fault):
    """The answer, or the webhook, for a recording that could not be transcribed."""

    do: Literal["error_result"]
    on: Literal["status", "webhook"]
    message: str = "The recording could not be transcribed."


class Drop(_Fault):
    """The webhook is made, so that it can be sent by hand, but not sent."""

    do: Literal["drop"]
    on: _Webhook


CallFault = (
    Status
    | Html
    | Redirect
    | Huge
    | Reset
    | CloseAfterBytes
    | Silence
    | Latency
    | DropReply
    | StatusInstead
    | Interim
    | SlowBytes
    | Truncate
    | MissingField
    | UnknownStatus
    | OddResult
    | DenyAcknowledged
    | ErrorResult
)
WebhookFault = Latency | ErrorResult | Drop
Fault = CallFault | Drop

_FAULT: TypeAdapter[Fault] = TypeAdapter(Annotated[Fault, Field(discriminator="do")])


def parse(rule: bytes) -> Fault:
    """Read one rule as JSON. Raises pydantic's ValidationError, a ValueError that says what is wrong."""
    return _FAULT.validate_json(rule)


class FaultRules:
    """The faults asked for, in that order. Used by the event loop only."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []

    def add(self, fault: Fault) -> None:
        """Ask for one more fault, behind those there are."""
        self._rules.append(_Rule(fault))

    def clear(self) -> None:
        """Forget all faults; those already applied to a request continue."""
        self._rules.clear()

    @overload
    def take(self, operation: Operation) -> CallFault | None: ...

    @overload
    def take(self, operation: _Webhook) -> WebhookFault | None: ...

    def take(self, operation: Operation | _Webhook) -> Fault | None:
        """The fault that the next request of this operation meets, or the next webhook."""
        for rule in self._rules:
            if rule.fault.on == operation and rule.strikes():
                return rule.fault
        return None


class _Rule:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._to_pass = fault.after
        self._to_strike = fault.times

    def strikes(self) -> bool:
        if self._to_pass:
            self._to_pass -= 1
            return False
        if self._to_strike is None:
            return True
        self._to_strike -= 1
        return self._to_strike >= 0
