"""The part of JSON Schema that the manifest's schema uses, so that the base install needs no validator."""

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

Schema = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
}
_NOTES = {"$schema", "$id", "$defs", "title", "description"}
_RULES = {"$ref", "type", "required", "properties", "additionalProperties", "minProperties", "items", "minItems"}
_READ = _NOTES | _RULES | {"minimum", "exclusiveMinimum", "minLength", "pattern"}


@cache
def manifest_schema() -> Schema:
    """The JSON Schema of `manifest.json`."""
    schema: Schema = json.loads((files("scaling.contract") / "manifest.schema.json").read_text(encoding="utf-8"))
    return schema


def violation(value: Any, schema: Schema, root: Schema | None = None, where: str = "") -> str | None:
    """The first place at which `value` breaks `schema`, in words that begin with its path; None where it holds.

    Raises ValueError for a keyword that is not read here: a schema must not promise what nobody checks.
    """
    root = schema if root is None else root
    if unread := sorted(set(schema) - _READ):
        raise ValueError(f"the schema uses {', '.join(unread)}, which this validator does not read")
    if "$ref" in schema:
        found = violation(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, where)
        if found is not None:
            return found
    here = where or "the manifest"
    kind = schema.get("type")
    if kind is not None and (isinstance(value, bool) or not isinstance(value, _TYPES[kind])):
        return f"{here} is {_short(value)} and must be of type {kind}"
    if isinstance(value, dict):
        return _object(value, schema, root, where)
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            return f"{here} has {len(value)} entries and needs {schema['minItems']}"
        inner = (violation(entry, schema.get("items", {}), root, f"{where}[{n}]") for n, entry in enumerate(value))
        return next((found for found in inner if found is not None), None)
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            return f"{here} is empty"
        if "pattern" in schema and re.search(schema["pattern"], value) is None:
            return f"{here} is {_short(value)} and must match {schema['pattern']}"
        return None
    if "minimum" in schema and not value >= schema["minimum"]:
        return f"{here} is {value!r} and must be at least {schema['minimum']}"
    if "exclusiveMinimum" in schema and not value > schema["exclusiveMinimum"]:
        return f"{here} is {value!r} and must be above {schema['exclusiveMinimum']}"
    return None


def _object(value: dict[str, Any], schema: Schema, root: Schema, where: str) -> str | None:
    here, known = where or "the manifest", schema.get("properties", {})
    if missing := sorted(set(schema.get("required", ())) - set(value)):
        return f"{here} lacks {', '.join(missing)}"
    if len(value) < schema.get("minProperties", 0):
        return f"{here} has {len(value)} entries and needs {schema['minProperties']}"
    others = schema.get("additionalProperties", True)
    for name, entry in value.items():
        if name not in known and others is False:
            return f"{here} has the unknown entry {name!r}"
        inner = known.get(name, {} if isinstance(others, bool) else others)
        found = violation(entry, inner, root, f"{where}.{name}" if where else name)
        if found is not None:
            return found
    return None


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 40 else f"{told[:37]}..."
