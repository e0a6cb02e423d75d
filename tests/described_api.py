"""The API by its own OpenAPI document, so that a test of every route forgets none that is new."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

MAX_DEPTH = 4
ENDLESS = "/v1/events"
"""A stream of events has no end that could be waited for: its own tests open it."""
Place = tuple[str | int, ...]


class Spelt(str):
    """A part of a document that is JSON already, as `json.dumps` would not write it."""

    __slots__ = ()


def spelt(value: Any) -> str:
    """`value` in JSON, with what is `Spelt` as it is."""
    if isinstance(value, Spelt):
        return value
    if isinstance(value, dict):
        members = (f"{json.dumps(name)}:{spelt(part)}" for name, part in value.items())
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(spelt, value))}]"
    return json.dumps(value)


def with_value(body: Any, place: Place, value: Any) -> Any:
    """A copy of `body` that has `value` at `place`, with all that leads there."""
    if not place:
        return value
    head, *rest = place
    if isinstance(head, int):
        items = list(body) if isinstance(body, list) and body else [None]
        return [with_value(items[0], tuple(rest), value), *items[1:]]
    members = dict(body) if isinstance(body, dict) else {}
    return members | {head: with_value(members.get(head), tuple(rest), value)}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, as the document describes it."""

    method: str
    path: str
    described: Mapping[str, Any]
    document: Mapping[str, Any] = field(repr=False)

    def parameters(self, *places: str) -> Iterator[str]:
        """The names of those that stand in the path, the query or the header."""
        for one in self.described.get("parameters", ()):
            if one["in"] in places:
                yield one["name"]

    @property
    def statuses(self) -> set[int]:
        """What it may be answered with."""
        return {int(status) for status in self.described["responses"]}

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """That of its JSON body."""
        content = self.described.get("requestBody", {}).get("content", {})
        return content.get("application/json", {}).get("schema")

    def url(self, values: Mapping[str, str]) -> str:
        """Its path with `values` in the places of its parameters, every character escaped."""
        path = self.path
        for name in self.parameters("path"):
            text = values[name].encode("utf-8", "surrogatepass")
            path = path.replace(f"{{{name}}}", quote(text, safe=""))
        return path

    def places(self) -> list[Place]:
        """Where its body may hold something, itself and parts of parts included."""
        return [] if self.schema is None else list(dict.fromkeys(self._places(self.schema)))

    def body(self, values: Mapping[str, Any]) -> Any:
        """The least that it takes, with `values` for the fields of these names."""
        return None if self.schema is None else self._least(self.schema, values)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            found: Any = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema

    def _alternatives(self, schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [self._resolved(one) for one in schema.get("anyOf", (schema,))]

    def _places(self, schema: Mapping[str, Any], at: Place = ()) -> Iterator[Place]:
        yield at
        if len(at) == MAX_DEPTH:
            return
        for one in self._alternatives(self._resolved(schema)):
            for name, inner in one.get("properties", {}).items():
                yield from self._places(inner, (*at, name))
            if isinstance(one.get("additionalProperties"), dict):
                yield from self._places(one["additionalProperties"], (*at, "any"))
            if "items" in one:
                yield from self._places(one["items"], (*at, 0))

    def _least(self, schema: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        one = self._alternatives(self._resolved(schema))[0]
        if one.get("type") == "object":
            return {
                name: values[name] if name in values else self._least(inner, values)
                for name, inner in one.get("properties", {}).items()
                if name in one.get("required", ()) or name in values
            }
        if one.get("type") == "array":
            return [self._least(one["items"], values)] * one.get("minItems", 0)
        if "enum" in one:
            return one["enum"][0]
        return {"integer": one.get("minimum", 1), "boolean": True}.get(one["type"], "1001")


def operations_of(document: Mapping[str, Any]) -> list[Operation]:
    """All of them but the endless one; what deletes comes last."""
    found = [
        Operation(method.upper(), path, described, document)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
        if path != ENDLESS
    ]
    return sorted(found, key=lambda one: one.method == "DELETE")
