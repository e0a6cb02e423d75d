"""Message templates: a few that exist from the start, and the check of a template that is sent."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from whatsapp_simulator.graph_errors import GraphError
from whatsapp_simulator.identity import Names
from whatsapp_simulator.template_seed import SEED, Status

_VARIABLE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_NAME = re.compile(r"[a-z0-9_]{1,512}", re.ASCII)
_MEDIA_HEADERS = frozenset({"IMAGE", "VIDEO", "DOCUMENT", "LOCATION"})
_CATEGORIES = frozenset({"MARKETING", "UTILITY", "AUTHENTICATION"})


@dataclass(slots=True, kw_only=True)
class Template:
    """One language of a template, with its components as Meta lists them."""

    template_id: str
    name: str
    language: str
    category: str
    components: list[dict[str, Any]]
    status: Status = "APPROVED"
    parameter_format: Literal["POSITIONAL", "NAMED"] = "POSITIONAL"
    expected: dict[str, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.expected = _expected_parameters(self.components)

    def listed(self) -> dict[str, Any]:
        """The template as `GET message_templates` shows it."""
        return {
            "name": self.name,
            "parameter_format": self.parameter_format,
            "components": self.components,
            "language": self.language,
            "status": self.status,
            "category": self.category,
            "id": self.template_id,
        }


def _expected_parameters(components: list[dict[str, Any]]) -> dict[str, frozenset[str]]:
    """Which parameters each part wants: `header`, `body`, `button 0`, ..."""
    expected: dict[str, frozenset[str]] = {}
    for component in components:
        kind = str(component.get("type", "")).upper()
        if kind == "HEADER" and str(component.get("format", "TEXT")).upper() in _MEDIA_HEADERS:
            expected["header"] = frozenset({str(component["format"]).lower()})
        elif kind in {"HEADER", "BODY"}:
            text = str(component.get("text", ""))
            expected[kind.lower()] = frozenset(_VARIABLE.findall(text))
        elif kind == "BUTTONS":
            for index, button in enumerate(component.get("buttons", [])):
                expected[f"button {index}"] = _expected_of_button(button)
    return expected


def _expected_of_button(button: dict[str, Any]) -> frozenset[str]:
    match str(button.get("type", "")).upper():
        case "URL":
            return frozenset(_VARIABLE.findall(str(button.get("url", ""))))
        case "COPY_CODE" | "OTP":
            return frozenset({"1"})
        case _:
            return frozenset()


class TemplateBook:
    """The templates of all accounts; every account sees the same ones."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._templates: dict[tuple[str, str], Template] = {}
        for name, language, category, status, components in SEED:
            self.add(
                name, language=language, category=category, status=status, components=components
            )

    def add(
        self,
        name: str,
        *,
        language: str,
        category: str,
        components: list[dict[str, Any]],
        status: Status = "APPROVED",
    ) -> Template:
        """Keep a template; raises 100 for a bad name or category and 2388024-like for a double."""
        if not _NAME.fullmatch(name) or category not in _CATEGORIES:
            raise GraphError(100, "name or category is not valid")
        if (name, language) in self._templates:
            raise GraphError(100, "Content in this language already exists for this template")
        named = any(
            not v.isdecimal() for c in components for v in _VARIABLE.findall(str(c.get("text", "")))
        )
        template = Template(
            template_id=self._names.digits(),
            name=name,
            language=language,
            category=category,
            components=components,
            status=status,
            parameter_format="NAMED" if named else "POSITIONAL",
        )
        self._templates[name, language] = template
        return template

    def remove(self, name: str) -> bool:
        """Forget a template in all languages; False if there is none."""
        doomed = [key for key in self._templates if key[0] == name]
        for key in doomed:
            del self._templates[key]
        return bool(doomed)

    def find(self, template_id: str) -> Template | None:
        """The template with this id, if any."""
        return next((t for t in self._templates.values() if t.template_id == template_id), None)

    def listed(self, wanted: dict[str, list[str]]) -> list[dict[str, Any]]:
        """All templates whose fields have one of the values wanted of them."""
        rows = (template.listed() for template in self._templates.values())
        return [r for r in rows if all(r[k] in values for k, values in wanted.items())]

    def check(self, sent: dict[str, Any]) -> Template:
        """The template a message names, if its parameters fit; raises Meta's 132xxx otherwise."""
        name, language = sent.get("name"), sent.get("language")
        code = language.get("code") if isinstance(language, dict) else None
        if not isinstance(name, str) or not name:
            raise GraphError(131008, "Parameter 'template.name' is mandatory")
        if not isinstance(code, str) or not code:
            raise GraphError(131008, "Parameter 'template.language.code' is mandatory")
        template = self._templates.get((name, code))
        if template is None or template.status in {"PENDING", "REJECTED"}:
            raise GraphError(132001, f"template name ({name}) does not exist in {code}")
        if template.status == "PAUSED":
            raise GraphError(132015, "Template is paused because of low quality")
        if template.status == "DISABLED":
            raise GraphError(132016, "Template was paused too many times and is disabled")
        _check_parameters(template, _given_parameters(sent.get("components", [])))
        return template


def _given_parameters(components: Any) -> dict[str, list[dict[str, Any]]]:
    if not isinstance(components, list):
        raise GraphError(131009, "Parameter 'template.components' must be an array")
    given: dict[str, list[dict[str, Any]]] = {}
    for component in components:
        if not isinstance(component, dict):
            raise GraphError(131009, "Each of 'template.components' must be an object")
        part = str(component.get("type", "")).lower()
        if part == "button":
            part = f"button {component.get('index', 0)}"
        parameters = component.get("parameters", [])
        if not isinstance(parameters, list) or not all(isinstance(p, dict) for p in parameters):
            raise GraphError(131009, "Parameter 'parameters' must be an array of objects")
        given[part] = parameters
    return given


def _check_parameters(template: Template, given: dict[str, list[dict[str, Any]]]) -> None:
    for part, expected in template.expected.items():
        parameters = given.get(part, [])
        if part.startswith("button") and not expected:
            continue  # a quick reply may bring a payload, and need not
        if len(parameters) != len(expected):
            raise GraphError(
                132000,
                f"{part}: number of localizable_params ({len(parameters)}) does not match the "
                f"expected number of params ({len(expected)})",
            )
        _check_kinds(template, part=part, parameters=parameters, expected=expected)


def _check_kinds(
    template: Template,
    *,
    part: str,
    parameters: list[dict[str, Any]],
    expected: frozenset[str],
) -> None:
    if part == "header" and expected & {kind.lower() for kind in _MEDIA_HEADERS}:
        if str(parameters[0].get("type")) not in expected:
            raise GraphError(132012, f"header: Format mismatch, expected {min(expected).upper()}")
        return
    if template.parameter_format == "NAMED" and part in {"header", "body"}:
        names = {str(p.get("parameter_name")) for p in parameters}
        if names.symmetric_difference(expected):
            raise GraphError(132000, f"{part}: parameter_name does not match the template")
    for parameter in parameters:
        if parameter.get("type") == "text" and not parameter.get("text"):
            raise GraphError(131008, f"{part}: Parameter of type text is missing text value")
