"""Cut JSON Schemas out of custom resource definitions: `crd_schemas.py CRD.yaml…` writes them to k8s/schemas/.

A CRD's own schema lets unknown fields pass, which the API server then drops without a word. These refuse them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from packages import ROOT

# Any: JSON Schema as OpenAPI v3 writes it.
Schema: TypeAlias = dict[str, Any]

FOLDER = ROOT / "k8s" / "schemas"
_INT_OR_STRING: Schema = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
_TEXT: Schema = {"type": "string"}
# What says nothing about a manifest's shape, or cannot be checked without an API server.
_DROPPED = {"description", "default", "example", "format", "title", "nullable"}


def file_name(api_version: str, kind: str) -> str:
    """Return the name of the schema of one kind."""
    return f"{api_version.replace('/', '_')}_{kind}.json"


def cut(crd: Schema) -> tuple[str, Schema]:
    """Return the file name and the strict schema of a CRD's first version, which by custom is the newest."""
    group, kind, version = (
        crd["spec"]["group"],
        crd["spec"]["names"]["kind"],
        crd["spec"]["versions"][0],
    )
    schema = strict(version["schema"]["openAPIV3Schema"])
    # Every object has these, whether its CRD repeats them or not.
    schema["properties"] |= {"apiVersion": _TEXT, "kind": _TEXT, "metadata": {"type": "object"}}
    schema["required"] = sorted({*schema.get("required", []), "apiVersion", "kind", "metadata"})
    return file_name(f"{group}/{version['name']}", kind), schema


def strict(schema: Schema) -> Schema:
    """Return the schema without prose, refusing what it does not know."""
    if schema.get("x-kubernetes-int-or-string"):
        return _INT_OR_STRING
    out = {key: _inner(key, value) for key, value in schema.items() if _is_kept(key)}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and schema.get("type") == "object" and not is_open:
        out["additionalProperties"] = False
    return out


def _is_kept(key: str) -> bool:
    return key not in _DROPPED and not key.startswith("x-")


def _inner(key: str, value: Any) -> Any:
    if key == "properties":
        return {name: strict(each) for name, each in value.items()}
    if key in {"items", "additionalProperties", "not"} and isinstance(value, dict):
        return strict(value)
    if key in {"allOf", "anyOf", "oneOf"}:
        return [strict(each) for each in value]
    return value


def main(files: list[str]) -> int:
    """Write the schemas of every CRD in the files."""
    FOLDER.mkdir(exist_ok=True)
    for file in files:
        for crd in yaml.safe_load_all(Path(file).read_text("utf-8")):
            name, schema = cut(crd)
            text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
            (FOLDER / name).write_text(f"{text}\n", "utf-8")
            print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
