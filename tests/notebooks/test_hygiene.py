"""What every lesson has in common, so that a new one is made by copying one; the message says what was forgotten."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from tests.notebooks.lessons import (
    ALL,
    LESSONS,
    ROOT,
    SOLUTIONS,
    code_cells,
    notebook_id,
    read,
    solutions_of,
    text_of,
)

EXAM_DOMAINS = (
    "Installation, Upgrades, and Configuration",
    "Securing Workloads",
    "Traffic Management",
    "Troubleshooting",
    "none: this lesson is the way in",
)

VERBS = (
    "Allow|Ask|Bring|Capture|Choose|Close|Configure|Enforce|Find|Inject|Install|Keep|Leave|Let|Meet|Migrate|Mint|Move"
)
VERBS += "|Open|Prove|Reach|Read|Repair|Route|Run|Scrape|See|Start|Steer|Take|Tell|Test|Try|Use|Watch"

every_notebook = pytest.mark.parametrize("path", ALL, ids=notebook_id)
every_lesson = pytest.mark.parametrize("path", LESSONS, ids=notebook_id)


def test_no_two_lessons_have_one_number():
    numbers = [path.name[:2] for path in LESSONS]
    assert len(set(numbers)) == len(numbers) >= 5


def test_every_lesson_has_its_solutions_beside_it():
    assert [path.name for path in SOLUTIONS] == [path.name for path in LESSONS]


@every_notebook
class TestForm:
    def test_outputs_and_counts_are_stripped(self, path):
        dirty = [c.id for c in code_cells(read(path)) if c.outputs or c.execution_count is not None]
        assert dirty == []
        assert "widgets" not in read(path).metadata

    def test_the_kernel_is_python3(self, path):
        assert read(path).metadata.kernelspec.name == "python3"

    def test_it_is_nbformat_4_5_with_readable_ids(self, path):
        notebook = read(path)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        ids = [cell.id for cell in notebook.cells]
        assert len(set(ids)) == len(ids)
        assert [i for i in ids if not re.fullmatch(rf"{path.name[:2]}-[a-z0-9-]+", i)] == []

    def test_the_first_code_cell_holds_the_parameters_and_only_literals(self, path):
        notebook = read(path)
        first = code_cells(notebook)[0]
        assert code_cells(notebook, "parameters") == [first]
        names = {}
        for statement in ast.parse(first.source).body:
            assert isinstance(statement, ast.Assign), f"not a plain assignment: {ast.unparse(statement)}"
            names[statement.targets[0].id] = ast.literal_eval(statement.value)
        assert names["cluster"] == "embedded"

    def test_no_parameter_asks_for_a_secret(self, path):
        source = code_cells(read(path), "parameters")[0].source
        assert re.findall(r"(?i)\w*(?:key|secret|password|token)\w*\s*=", source) == []

    def test_only_labkit_is_imported_and_once(self, path):
        imports = [
            ast.unparse(node)
            for cell in code_cells(read(path))
            for node in ast.walk(ast.parse(cell.source))
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert imports == ["import labkit"]

    def test_nothing_sleeps_loops_for_ever_or_bends_the_path(self, path):
        source = "\n".join(cell.source for cell in code_cells(read(path)))
        assert re.findall(r"sleep\(|sys\.path|while |^[%!]|exit\(", source, re.MULTILINE) == []

    def test_no_cell_is_hidden_or_empty(self, path):
        notebook = read(path)
        hidden = {"hide-input", "hide-cell", "remove-input", "remove-cell", "skip-execution", "raises-exception"}
        assert [c.id for c in notebook.cells if hidden & set(c.metadata.get("tags", []))] == []
        assert [c.id for c in notebook.cells if not c.source.strip()] == []

    def test_the_last_code_cell_cleans_up(self, path):
        assert code_cells(read(path))[-1].source == "lab.leave()"

    def test_relative_links_lead_somewhere(self, path):
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text_of(read(path))):
            name, _, heading = target.partition("#")
            linked = (path.parent / name).resolve()
            assert linked.exists(), target
            if heading and linked.suffix == ".ipynb":
                headings = re.findall(r"^#+ (.+)$", text_of(read(linked)), re.MULTILINE)
                assert heading in [h.replace(" ", "-") for h in headings], target

    def test_every_manifest_that_is_named_exists(self, path):
        source = "\n".join(cell.source for cell in read(path).cells)
        named = set(re.findall(r"manifests/[\w./-]*\w", source))
        assert [name for name in sorted(named) if not (ROOT / name).exists()] == []

    def test_text_does_not_speak_of_this_projects_making(self, path):
        text = "\n".join(cell.source for cell in read(path).cells)
        assert re.findall(r"(?i)\b(todo|fixme|lorem|coverage row)\b|(?<!\w)/(?:tmp|home|root)/", text) == []


@every_lesson
class TestLesson:
    def test_the_title_starts_with_a_verb_and_the_openings_are_there(self, path):
        title = read(path).cells[0].source
        # A title such as "Metrics" or "About mTLS" promises no act.
        assert re.match(rf"# ({VERBS}) ", title)
        for opening in ("**What you'll do.**", "**What you'll learn.**", "**What you'll need.**", "**Time.**"):
            assert opening in title

    def test_minutes_and_exam_domain_stand_in_text_and_metadata(self, path):
        notebook = read(path)
        meta, title = notebook.metadata.labkit, notebook.cells[0].source
        assert 5 <= meta.minutes <= 30
        assert f"**Time.** {meta.minutes} minutes." in title
        assert meta.exam_domain in EXAM_DOMAINS
        assert meta.exam_domain.split(":")[0].lower() in title.lower()
        assert meta.lesson == path.name[:2]

    def test_the_lab_is_opened_from_the_parameter_and_the_world_is_this_lessons(self, path):
        source = "\n".join(cell.source for cell in code_cells(read(path)))
        assert "lab = labkit.open(cluster)" in source
        assert f'lab.world("{path.name[:2]}"' in source

    def test_the_learner_predicts_before_observing(self, path):
        assert "**Predict" in text_of(read(path))

    def test_the_kubectl_line_is_shown(self, path):
        assert "```bash\nkubectl " in text_of(read(path))

    def test_it_closes_with_a_recap_of_three_lines_and_in_practice(self, path):
        text = text_of(read(path))
        recap = re.search(r"## Recap\n\n((?:- .+\n?)+)", text)
        assert recap and len(recap[1].strip().splitlines()) == 3
        assert text.index("## Quiz") < text.index("## Recap") < text.index("## In practice")
        assert "https://istio.io/latest/" in text[text.index("## In practice") :], "a link to the official pages"

    def test_code_cells_are_short(self, path):
        cells = code_cells(read(path))
        sizes = sorted(len([line for line in c.source.splitlines() if line.strip()]) for c in cells)
        assert sizes[len(sizes) // 2] <= 6
        assert sizes[int(len(sizes) * 0.9)] <= 20

    def test_code_lines_fit_a_laptops_window(self, path):
        wide = [line for c in code_cells(read(path)) for line in c.source.splitlines() if len(line) > 100]
        assert wide == []

    def test_text_cells_are_short(self, path):
        cells = [c for c in read(path).cells[1:] if c.cell_type == "markdown"]
        words = {c.id: len(re.sub(r"(?s)```.*?```|<details>.*?</details>", "", c.source).split()) for c in cells}
        assert {i: n for i, n in words.items() if n > 90} == {}

    def test_every_check_cell_names_its_check(self, path):
        for cell in code_cells(read(path), "check"):
            assert cell.source.startswith('lab.check("'), cell.id

    def test_no_check_hides_in_a_cell_without_the_tag(self, path):
        tagged = {c.id for tag in ("check", "exercise") for c in code_cells(read(path), tag)}
        assert [c.id for c in code_cells(read(path)) if "lab.check(" in c.source and c.id not in tagged] == []

    def test_covered_rows_agree_with_the_cells(self, path):
        notebook = read(path)
        rows = {row for c in notebook.cells for row in c.metadata.get("labkit", {}).get("covers", [])}
        assert set(notebook.metadata.labkit.covers) == rows


@every_lesson
class TestExercises:
    def test_there_is_one(self, path):
        assert code_cells(read(path), "exercise")

    def test_each_has_given_goal_two_hints_and_a_link_to_its_solution(self, path):
        text = text_of(read(path))
        for cell in code_cells(read(path), "exercise"):
            name = cell.metadata.labkit.exercise
            part = text[text.index(f"## Exercise {name}") :]
            part = part[: part.find("\n## ", 3)]
            for needed in ("**Difficulty**", "**Given**", "**Goal:**", f"#{name})"):
                assert needed in part, (name, needed)
            # The first says where to look, the second nearly what to write; each is opened on its own.
            hints = re.findall(r"<details><summary>(Hint \d)</summary>(.+?)</details>", part)
            assert [title for title, _ in hints] == ["Hint 1", "Hint 2"], name
            assert len({text for _, text in hints}) == 2, name
            # Inside of HTML Markdown is not read: code is <code>.
            assert [text for _, text in hints if "`" in text or "**" in text] == [], name

    def test_each_has_one_blank_and_ends_in_its_check(self, path):
        for cell in code_cells(read(path), "exercise"):
            assert cell.source.count("...") == 1, cell.id
            assert cell.source.splitlines()[-1].startswith(f'lab.check("{cell.metadata.labkit.exercise}"'), cell.id

    def test_each_is_solved_by_filling_its_blank_alone(self, path):
        solutions = solutions_of(path)
        for cell in code_cells(read(path), "exercise"):
            before, after = cell.source.split("...")
            solved = solutions[cell.metadata.labkit.exercise]
            assert solved.startswith(before) and solved.endswith(after) and "..." not in solved, cell.id

    def test_each_solved_manifest_stands_in_manifests_too(self, path):
        for name, solved in solutions_of(path).items():
            if manifest := re.search(r'"""\n(.*?)"""', solved, re.DOTALL):
                file = ROOT / "manifests" / "solutions" / path.name[:2] / f"{name}.yaml"
                assert yaml.safe_load(file.read_text()) == yaml.safe_load(manifest[1])


def test_a_covered_row_stands_in_a_lesson_that_checks_something():
    for path in LESSONS:
        if read(path).metadata.labkit.covers:
            assert code_cells(read(path), "check"), notebook_id(path)


def test_the_strict_manifest_in_the_lesson_is_the_one_in_manifests():
    lesson = next(path for path in LESSONS if path.name.startswith("04"))
    cell = next(c for c in code_cells(read(lesson)) if c.id == "04-apply-strict")
    shown = re.search(r'"""\n(.*?)"""', cell.source, re.DOTALL)
    file = ROOT / "manifests" / "lessons" / "04" / "peer-authentication.yaml"
    assert shown and yaml.safe_load(shown[1]) == yaml.safe_load(file.read_text())


@pytest.mark.parametrize("path", sorted((ROOT / "manifests").rglob("*.yaml")), ids=lambda p: str(p.relative_to(ROOT)))
def test_manifests_are_plain_objects_that_name_their_namespace(path: Path):
    for document in yaml.safe_load_all(path.read_text()):
        assert {"apiVersion", "kind", "metadata"} <= document.keys()
        # What is for the mesh's root namespace is applied with -n: it has another name on some platforms.
        if document["kind"] not in ("Namespace", "ClusterRole", "ClusterRoleBinding") and path.parent.name != "root":
            assert document["metadata"]["namespace"]
