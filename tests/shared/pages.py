"""The pages of the documentation, and what stands in them."""

import re

from places import ROOT

DOCS = ROOT / "docs"
BUILT = DOCS / "_build"
PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"),
    *sorted(
        path.relative_to(ROOT).as_posix()
        for path in DOCS.rglob("*.md")
        if BUILT not in path.parents
    ),
]
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}


def blocks(text, *languages):
    """Contents of the fenced blocks in one of the languages."""
    pattern = rf"^```(?:{'|'.join(languages)})\n(.*?)^```$"
    return re.findall(pattern, text, flags=re.DOTALL | re.MULTILINE)


def program(page):
    """All of a page's Python, which is one program; nothing if there is none.

    A block in a comment is what a reader knows from before.
    """
    return "\n\n".join(blocks(TEXTS[page], "python"))


def commands(text):
    """The words of each command in the blocks for a shell."""
    for block in blocks(text, "sh", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.removeprefix("$ ").partition("#")[0].split()
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words:
                yield words


def links(text):
    """Where links and images of a page lead, but for what is in code."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    images = re.findall(r'\bsrc(?:set)?="([^"]+)"', text)
    return re.findall(r"\]\(([^)\s]+)\)", text) + images


def anchors(text):
    """What the headings of a page are called in links."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    bare = (re.sub(r"[^\w\s-]", "", title.lower()) for title in titles)
    return {re.sub(r"\s", "-", title.strip()) for title in bare}
