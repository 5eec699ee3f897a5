"""What the site holds beside docs/*.md (hooks of mkdocs.yml): commands, API and tour, all made when it is built.

Commands come from the help of `mdbench`, the API from docstrings of the names in ``mdbench.__all__``, the tour from
running examples/tour.py. The pages of the leaderboard are copied. A link to any other file of the repository becomes
its path: the site goes where the repository is not.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path

import jupytext
import typer.cli
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import ExecutePreprocessor
from traitlets.config import Config

import mdbench
from mdbench.cli import app

ROOT = Path(__file__).parents[1]
SOURCES = "build/api"  # as mkdocs.yml has it
BOARD = "leaderboard/"  # its pages, which are whole in themselves
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
SHOWN = ["image/svg+xml", "text/html", "text/plain"]  # of what a cell of the tour gives, the first of these
ROLE = re.compile(r":(?:mod|func|class|meth|data|attr):(?=<code>)")


def on_startup(**_) -> None:
    """Lay the package out as it is when it is installed (tasks and baselines within it), for mkdocstrings to read.

    Before mkdocstrings looks for the folder: it leaves out those that are not there yet.
    """
    shutil.rmtree(ROOT / SOURCES, ignore_errors=True)
    code_alone = shutil.ignore_patterns("weights", "data", "__pycache__")
    for folder in ("mdbench", "tasks", "baselines"):
        home = "mdbench" if folder == "mdbench" else f"mdbench/{folder}"
        shutil.copytree(ROOT / folder, ROOT / SOURCES / home, ignore=code_alone)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the tour, run anew, and the leaderboard."""
    for name, content in tour().items():
        files.append(File.generated(config, name, content=content))
    for path in sorted((ROOT / BOARD).iterdir()):
        if path.suffix in {".html", ".csv"} or path.name == "record.schema.json":
            files.append(File.generated(config, BOARD + path.name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that lead out of docs/; below the words of docs/commands.md and docs/api.md, what is made."""
    made = {"commands.md": commands, "api.md": api}.get(page.file.src_uri, lambda: "")
    folder = posixpath.dirname(page.file.src_uri)
    return LINK.sub(lambda link: _mended(link, folder, config.repo_url, files), markdown) + made()


def on_page_content(html: str, page: Page, **_) -> str:
    """Docstrings mark names by roles (:func:`..`), which Markdown does not know."""
    return ROLE.sub("", html) if page.file.src_uri == "api.md" else html


def _mended(link: re.Match, folder: str, repository: str | None, files: Files) -> str:
    path = posixpath.normpath(posixpath.join("docs", folder, link["target"]))
    if "://" in link["target"] or path.startswith("docs/"):
        return link[0]
    page = re.sub(r"\bREADME\.md$", "index.html", path).removesuffix(".md") if path.startswith(BOARD) else path
    for there in (page, page + ".html"):
        if there.startswith(BOARD) and files.get_file_from_path(there):
            return f"{link['image']}[{link['text']}]({posixpath.relpath(there, folder or '.')})"
    if not (ROOT / path).exists():
        return link[0]  # mkdocs says that it leads nowhere
    if repository:
        return f"[{link['text']}]({repository.rstrip('/')}/blob/main/{path}{link['anchor'] or ''})"
    text = link["text"].strip("`")
    return f"`{path}`" if text in path else f"{link['text']} (`{path}`)"


def commands() -> str:
    """Every command from its own help."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="mdbench")
    text = typer.cli.get_docs_for_click(obj=command, ctx=context, name="mdbench", indent=1)
    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.S)  # every second is code, the others are plain text
    parts[::2] = [re.sub(r"(?<=\w)\*", r"\\*", part.replace("<", "&lt;")) for part in parts[::2]]
    return "\n\n" + "".join(parts)


def api() -> str:
    """Every public name from its docstring."""
    return "".join(f"\n\n::: mdbench.{name}" for name in sorted(mdbench.__all__, key=str.lower))


def tour() -> dict[str, str | bytes]:
    """The page and its pictures, by their names in the site: examples/tour.py as it runs now."""
    notebook = jupytext.read(ROOT / "examples" / "tour.py")
    (ROOT / "build").mkdir(exist_ok=True)
    config = Config(NbConvertBase={"display_data_priority": SHOWN})
    ExecutePreprocessor(timeout=300, config=config).preprocess(notebook, {"metadata": {"path": str(ROOT / "build")}})
    for cell in notebook.cells:
        if cell.cell_type == "code":  # bars of progress are for whoever waits
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    page, made = MarkdownExporter(config=config).from_notebook_node(notebook, {"output_files_dir": "tour_files"})
    return {"tour.md": page.replace(' border="1" class="dataframe"', ""), **made["outputs"]}
