"""What the OpenAPI document says of Meta's endpoint, whose form is Meta's and not ours."""

from typing import Any, Final

from whatsapp.entrypoints.http.documentation import RETRY_AFTER

_TEXT: Final = {"type": "string"}
_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "fbtrace_id"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "code": {"type": "integer", "description": "Meta's code."},
                "error_subcode": {"type": "integer"},
                "error_data": {
                    "type": "object",
                    "properties": {"messaging_product": _TEXT, "details": _TEXT},
                },
                "is_transient": {"type": "boolean"},
                "fbtrace_id": {"type": "string", "description": "The request id."},
            },
        }
    },
}
_ACCEPTED: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "messaging_product": {"type": "string", "enum": ["whatsapp"]},
        "contacts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"input": _TEXT, "wa_id": _TEXT, "user_id": _TEXT},
            },
        },
        "messages": {
            "type": "array",
            "items": {"type": "object", "properties": {"id": _TEXT, "message_status": _TEXT}},
        },
        "success": {"type": "boolean", "description": "For a read receipt."},
    },
}
_MEANINGS: Final = {
    400: "Refused, under Meta's code",
    401: "No valid API key (code 190)",
    403: "The key lacks the scope (code 10)",
    404: "Nothing is at this address (code 2500)",
    408: "The request did not arrive in time",
    413: "The body is too large (code 100)",
    415: "The body is compressed",
    500: "A fault of Tellwire or of its installation (code 131000)",
    503: "Something does not answer (code 2); `Retry-After` says when to try again",
}

GRAPH_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Accepted, with the id that Tellwire gives; or the receipt was passed on",
        "content": {"application/json": {"schema": _ACCEPTED}},
    },
    **{
        code: {
            "description": meaning,
            "content": {"application/json": {"schema": _ERROR}},
            **({"headers": RETRY_AFTER} if code in {408, 503} else {}),
        }
        for code, meaning in _MEANINGS.items()
    },
}
GRAPH_OPENAPI: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["messaging_product"],
                    "properties": {
                        "messaging_product": {"type": "string", "enum": ["whatsapp"]},
                        "recipient_type": {"type": "string", "enum": ["individual"]},
                        "to": {"type": "string", "description": "A number, best with its plus."},
                        "recipient": {
                            "type": "string",
                            "description": "A user id; beside `to` it goes along.",
                        },
                        "type": _TEXT,
                        "context": {"type": "object", "properties": {"message_id": _TEXT}},
                        "biz_opaque_callback_data": {
                            "type": "string",
                            "maxLength": 512,
                            "description": "Given back in the statuses that are passed on.",
                        },
                        "status": {"type": "string", "enum": ["read"]},
                        "message_id": _TEXT,
                    },
                    "additionalProperties": True,
                },
                "example": {
                    "messaging_product": "whatsapp",
                    "to": "+4915550000001",
                    "type": "text",
                    "text": {"body": "Your order is on its way."},
                },
            }
        },
    }
}


_MEDIA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "messaging_product": {"type": "string", "enum": ["whatsapp"]},
        "url": {"type": "string", "description": "To be downloaded with the same key."},
        "mime_type": _TEXT,
        "sha256": {"type": "string", "description": "In hexadecimal."},
        "file_size": {"type": "integer"},
        "id": _TEXT,
    },
}


def _answers(description: str, schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    told = {"description": description, "content": {"application/json": {"schema": schema}}}
    return {**GRAPH_RESPONSES, 200: told}


GRAPH_MEDIA_STORED: Final = _answers(
    "Taken in", {"type": "object", "properties": {"id": _TEXT}, "required": ["id"]}
)
GRAPH_MEDIA_FOUND: Final = _answers("The file", _MEDIA)
GRAPH_MEDIA_DELETED: Final = _answers(
    "It is gone", {"type": "object", "properties": {"success": {"type": "boolean"}}}
)
GRAPH_MEDIA_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["messaging_product", "file"],
                    "properties": {
                        "messaging_product": {"type": "string", "enum": ["whatsapp"]},
                        "file": {"type": "string", "format": "binary"},
                        "type": {"type": "string", "description": "The file's MIME type."},
                    },
                }
            }
        },
    }
}
