"""The HTTP interface as OpenAPI 3.1; the schema of settings is made from their dataclass."""

from __future__ import annotations

import types
from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from omote import __version__
from omote.config import Range, to_json
from omote.studio.settings import CONSENT, JobRequest, JobSettings

_SCALARS = {str: "string", float: "number", int: "integer", bool: "boolean", type(None): "null"}


def openapi() -> dict[str, Any]:
    """The description that ``/openapi.json`` serves."""
    job, refused = _ref("Job"), {"description": "refused", **_content(_ref("Refusal"))}
    id_of = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}]
    file_of = [*id_of, {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    form = {
        "type": "object",
        "required": ["request", "file"],
        "properties": {
            "request": _ref("Request"),
            "file": {
                "type": "array",
                "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                "description": "the scan, or several files of one: an OBJ with its MTL and images, a frame's images and JSON",
            },
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "omote studio",
            "version": __version__,
            "description": "A scan becomes an avatar. An id is a secret: whoever has it reads the job, unless a browser made it, "
            "whose cookie is needed then. A server with a token takes it as `Authorization: Bearer TOKEN`.",
        },
        "paths": {
            "/api/jobs": {
                "post": {
                    "summary": "Start a job",
                    "requestBody": {
                        "required": True,
                        "content": {
                            "multipart/form-data": {"schema": form},
                            "application/json": {"schema": _ref("Request")},
                        },
                    },
                    "responses": {
                        "201": {"description": "accepted", **_content(job)},
                        "400": refused, "408": refused, "410": refused, "413": refused, "415": refused, "422": refused,
                        "429": refused, "503": refused, "507": refused,
                    },
                },
                "get": {
                    "summary": "Jobs of this browser, the newest first",
                    "responses": {
                        "200": {
                            "description": "jobs",
                            **_content({"type": "object", "properties": {"jobs": {"type": "array", "items": job}}}),
                        }
                    },
                },
            },
            "/api/jobs/{id}": {
                "get": {
                    "summary": "A job",
                    "parameters": id_of,
                    "responses": {"200": {"description": "the job", **_content(job)}, "404": refused},
                },
                "delete": {
                    "summary": "Cancel a job, and delete it with all its files",
                    "parameters": id_of,
                    "responses": {"204": {"description": "gone"}, "404": refused},
                },
            },
            "/api/jobs/{id}/events": {
                "get": {
                    "summary": "The job each time it changes: events `job` with the job as data, then `end` or `gone`",
                    "parameters": id_of,
                    "responses": {
                        "200": {"description": "events", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
                        "404": refused,
                        "429": refused,
                    },
                }
            },
            "/api/jobs/{id}/{name}": {
                "get": {
                    "summary": "A file: avatar.glb, avatar.vrm, sheet.png, report.json and inferred.png once the job is done; "
                    "preview.glb, source.png and image-N.png as soon as its `files` name them",
                    "parameters": file_of,
                    "responses": {"200": {"description": "the file"}, "404": refused},
                }
            },
            "/api/about": {"get": {"summary": "What this server takes", "responses": {"200": {"description": "facts"}}}},
            "/healthz": {
                "get": {"summary": "Whether it works", "responses": {"200": {"description": "yes"}, "503": {"description": "no"}}}
            },
            "/metrics": {"get": {"summary": "Numbers for Prometheus", "responses": {"200": {"description": "text"}}}},
            "/openapi.json": {"get": {"summary": "This description", "responses": {"200": {"description": "JSON"}}}},
        },
        "components": {
            "schemas": {
                "Request": {**_schema(JobRequest), "description": f"consent: {CONSENT}"},
                "Settings": _schema(JobSettings),
                "Job": _JOB,
                "Refusal": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": _ERROR},
                },
            }
        },
    }  # fmt: skip


_TEXT, _NUMBER, _WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}
_ERROR = {
    "type": "object",
    "required": ["kind", "line"],
    "properties": {
        "kind": {
            **_TEXT,
            "description": "ScanError, AlignmentError (landmarks may help), ConfigError, Limit, Machine, Defect, …",
        },
        "line": {**_TEXT, "description": "what the command line says"},
    },
}
_JOB: dict[str, Any] = {
    "type": "object",
    "required": ["id", "name", "state", "created", "settings"],
    "properties": {
        "id": _TEXT,
        "name": {**_TEXT, "description": "what the user calls the scan; not escaped"},
        "state": {"enum": ["queued", "running", "done", "failed"]},
        "place": {**_WHOLE, "description": "number of waiting jobs before it"},
        "attempt": {**_WHOLE, "description": "number of processes started for it; one that is killed is started again"},
        "created": {**_NUMBER, "description": "seconds since 1970"},
        "deleted_after": {"type": ["number", "null"]},
        "consent": _TEXT,
        "settings": {"$ref": "#/components/schemas/Settings"},
        "made_up": {"type": ["integer", "null"]},
        "landmarks": {"type": "boolean", "description": "whether they were given"},
        "stages": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"stage": _TEXT, "at_s": _NUMBER, "done": _WHOLE, "total": _WHOLE, "note": _TEXT},
            },
        },
        "files": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": _TEXT, "label": _TEXT}},
            "description": "what can be shown already; the label is the expression",
        },
        "notes": {"type": "array", "items": _TEXT},
        "scan": {
            "type": "object",
            "properties": {"kind": _TEXT, "points": _WHOLE, "faces": _WHOLE, "color": {"type": "boolean"}},
        },
        "error": _ERROR,
        "summary": {**_TEXT, "description": "the command line's last line"},
        "facts": {"type": "object", "description": "the report's estimates"},
        "results": {"type": "array", "items": _TEXT},
        "seconds": _NUMBER,
        "peak_memory_mb": _NUMBER,
    },
}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _schema(kind: type) -> dict[str, Any]:
    """The schema of a config's dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    properties = {}
    for field in fields(kind):
        entry = (
            {"$ref": "#/components/schemas/Settings"} if hints[field.name] is JobSettings else _type(hints[field.name])
        )
        if field.default is not MISSING and not isinstance(field.default, JobSettings):
            entry["default"] = to_json(field.default)
        properties[field.name] = entry
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _type(hint: Any) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        entry = _type(arguments[0])
        for bounds in arguments[1:]:
            if isinstance(bounds, Range):
                limits = {"minimum": bounds.low, "maximum": bounds.high}
                entry |= {key: value for key, value in limits.items() if value is not None}
        return entry
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        options = [_type(a) for a in arguments]
        if all(set(option) == {"type"} for option in options):
            return {"type": [option["type"] for option in options]}
        return {"anyOf": options}
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return {"type": "array", "items": _type(arguments[0])}
        return {
            "type": "array",
            "prefixItems": [_type(a) for a in arguments],
            "items": False,
            "minItems": len(arguments),
        }
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(arguments[1])}
    return {"type": _SCALARS[hint]}
