"""What every package must bring, and what the repository promises about itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = sorted(
    each.parent
    for kind in ("libs", "services", "tools")
    for each in (ROOT / kind).glob("*/pyproject.toml")
)
NEEDS_GIT = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
SERVICES = [each for each in PACKAGES if each.parent.name == "services"]


def name(path: Path) -> str:
    return path.name


def project(folder: Path) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))[
        "project"
    ]
    return found


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("folder", PACKAGES, ids=name)
class TestEveryPackage:
    def test_has_a_readme_of_its_own(self, folder: Path) -> None:
        text = (folder / "README.md").read_text("utf-8")
        assert len(text.splitlines()) > 5, (
            "one screen: what it does, its settings, how to run it alone"
        )

    def test_has_a_changelog_with_an_unreleased_section(self, folder: Path) -> None:
        assert "\n## Unreleased\n" in (folder / "CHANGELOG.md").read_text("utf-8")

    def test_is_typed(self, folder: Path) -> None:
        assert list(folder.glob("src/*/py.typed"))

    def test_has_a_version(self, folder: Path) -> None:
        assert re.fullmatch(r"\d+\.\d+\.\d+", str(project(folder)["version"]))

    def test_has_an_owner(self, folder: Path) -> None:
        owners = (ROOT / ".github/CODEOWNERS").read_text("utf-8")
        assert re.search(rf"^/{folder.relative_to(ROOT)}/\s+@\S+", owners, re.MULTILINE)

    def test_accepts_the_libs_common_of_this_tree(self, folder: Path) -> None:
        version = str(project(ROOT / "libs/common")["version"])
        dependencies = project(folder).get("dependencies", [])
        assert isinstance(dependencies, list)
        ranges = [Requirement(each) for each in dependencies if each.startswith("fleet-common")]
        assert all(version in each.specifier for each in ranges)

    def test_has_tests(self, folder: Path) -> None:
        assert list(folder.glob("tests/**/test_*.py"))


@pytest.mark.parametrize("folder", SERVICES, ids=name)
class TestEveryService:
    def test_has_an_image_and_an_owner_for_it(self, folder: Path) -> None:
        owners = (ROOT / ".github/CODEOWNERS").read_text("utf-8")
        path = f"docker/{folder.name}.Dockerfile"
        assert (ROOT / path).exists()
        assert f"/{path} " in owners

    def test_has_manifests_of_its_version(self, folder: Path) -> None:
        base = ROOT / "k8s/base" / folder.name
        kustomization = yaml.safe_load((base / "kustomization.yaml").read_text("utf-8"))
        assert kustomization["images"][0]["newTag"] == project(folder)["version"]
        for resource in kustomization["resources"]:
            assert (base / resource).stat().st_size > 0

    def test_has_probes_and_no_rights_it_does_not_need(self, folder: Path) -> None:
        deployment = ROOT / "k8s/base" / folder.name / "deployment.yaml"
        pod = yaml.safe_load(deployment.read_text("utf-8"))["spec"]["template"]["spec"]
        container = pod["containers"][0]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}

    def test_can_be_deployed_alone(self, folder: Path) -> None:
        required = yaml.safe_load((ROOT / "skaffold.yaml").read_text("utf-8"))["requires"]
        own = yaml.safe_load((folder / "skaffold.yaml").read_text("utf-8"))
        assert {"services/" + folder.name} & {each["path"] for each in required}
        assert own["metadata"]["name"] == folder.name


class TestTheRepository:
    def test_makefile_stays_readable(self) -> None:
        assert len((ROOT / "Makefile").read_text("utf-8").splitlines()) < 100

    def test_every_make_target_says_what_it_does(self) -> None:
        text = (ROOT / "Makefile").read_text("utf-8")
        for target in re.findall(r"^\.PHONY: (\S+)$", text, re.MULTILINE):
            assert re.search(rf"^{target}:.* ## \S", text, re.MULTILINE), target

    @NEEDS_GIT
    def test_no_tracked_file_names_one_machine(self) -> None:
        done = run_script("scripts/local_traces.py")
        assert done.returncode == 0, done.stdout

    @NEEDS_GIT
    def test_no_tracked_file_is_empty_but_markers(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.split()
        sizes = {each: (ROOT / each).stat().st_size for each in listed if (ROOT / each).exists()}
        assert [
            each for each, size in sizes.items() if size == 0 and Path(each).name != "py.typed"
        ] == []

    def test_constraints_name_no_host_and_no_path(self) -> None:
        text = (ROOT / "requirements/constraints.txt").read_text("utf-8")
        assert "://" not in text
        assert " @ " not in text

    @pytest.mark.timeout(60)  # imports all four services
    def test_generated_docs_are_current(self) -> None:
        done = run_script("scripts/reference_docs.py")
        assert done.returncode == 0, done.stdout + done.stderr

    def test_links_in_documents_lead_somewhere(self) -> None:
        pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*/README.md")]
        broken = [
            f"{page.relative_to(ROOT)} -> {target}"
            for page in pages
            for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text("utf-8"))
            if not (page.parent / target).exists()
        ]
        assert broken == []
