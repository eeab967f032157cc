"""Render Kubernetes manifests and hold them to their schemas: `manifests.py k8s/overlays/production…`.

Kinds of Kubernetes itself are validated strictly by kubernetes-validate, custom ones by the schemas in k8s/schemas
(see crd_schemas.py). A kind that has neither is a mistake.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

# Neither has types.
import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-untyped]
import yaml

import crd_schemas

# Any: a manifest is whatever YAML says; its schema is what is asked here.
Manifest: TypeAlias = dict[str, Any]

# It reads two megabytes of definitions again for every manifest.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)

KUBERNETES = "1.36"
_TIMEOUT_S = 60


class BadKustomization(Exception):
    """Raised when a kustomization cannot be rendered; the text is kubectl's."""


def render(folder: Path) -> list[Manifest]:
    """Return what `kubectl apply -k` would send.

    Raises:
        BadKustomization: it cannot be rendered, or only with a warning.
    """
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0 or done.stderr:
        raise BadKustomization(done.stderr)
    # The C loader reads a fleet in a tenth of the time, where it is built in.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return list(yaml.load_all(done.stdout, loader))


def title(manifest: Manifest) -> str:
    """Return how people call a manifest, such as `Deployment/data`."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def problem(manifest: Manifest) -> str | None:
    """Return what is wrong with a manifest, or None."""
    try:
        custom = _custom(manifest["apiVersion"], manifest["kind"])
        if custom is not None:
            custom.validate(manifest)
        else:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except jsonschema.ValidationError as exc:
        where = ".".join(str(part) for part in exc.absolute_path)
        return f"{title(manifest)}: {where}: {exc.message}"
    except kubernetes_validate.SchemaNotFoundError as exc:
        return f"{title(manifest)}: {exc.message}"
    return None


@cache
def _custom(api_version: str, kind: str) -> jsonschema.Draft202012Validator | None:
    path = crd_schemas.FOLDER / crd_schemas.file_name(api_version, kind)
    if not path.exists():
        return None
    return jsonschema.Draft202012Validator(json.loads(path.read_text("utf-8")))


def kubectl() -> str:
    """Return the path of kubectl: this environment's, else the machine's."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        raise BadKustomization("kubectl is not installed")
    return found


def main(folders: list[str]) -> int:
    """Print what is wrong; 1 means that something is."""
    failed = False
    for folder in folders:
        manifests = render(Path(folder))
        problems = [each for each in map(problem, manifests) if each]
        print("\n".join([f"{folder}: {len(manifests)} manifests", *problems]))
        failed = failed or bool(problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
