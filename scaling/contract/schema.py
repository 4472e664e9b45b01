"""What the JSON Schema of `manifest.json` says of one."""

import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import fastjsonschema


@cache
def _validator() -> Callable[[Any], Any]:
    schema = json.loads((files("scaling.contract") / "manifest.schema.json").read_text(encoding="utf-8"))
    return fastjsonschema.compile(schema)


def violation(manifest: Any) -> str | None:
    """The first entry that breaks the schema and how, in words that begin with its path; None where it holds."""
    try:
        _validator()(manifest)
    except fastjsonschema.JsonSchemaValueException as error:
        name = str(error.name)
        where = name.removeprefix("data").removeprefix(".")
        return f"{where or 'the manifest'} {error.message.removeprefix(name).strip()}"
    return None
