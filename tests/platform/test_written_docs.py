"""Pages written from the code are the ones in the repository."""

from __future__ import annotations

import pytest

from orchestration.written_docs import DOCS, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_written_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "run: make docs"


def test_every_link_of_the_readme_leads_somewhere() -> None:
    import re

    root = DOCS.parent
    pages = [root / "README.md", root / "CONTRIBUTING.md", root / "deploy" / "README.md", *DOCS.glob("*.md")]
    dead = [
        (page.name, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert not dead
