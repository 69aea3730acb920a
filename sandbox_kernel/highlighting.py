"""How Pygments colours our cells, where its own lexers are about files.

Announced to Pygments by an entry point, so that nbconvert and nbviewer's likes find it by the
name that `language_info` gives. Nothing else imports this.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pygments.lexers.php import PhpLexer


class PhpCellLexer(PhpLexer):  # type: ignore[misc]
    """PHP from the first character on: a cell needs no `<?php`, without which a file is HTML."""

    name = "PHP in a cell"
    aliases: ClassVar[list[str]] = ["php-cell"]
    filenames: ClassVar[list[str]] = []
    mimetypes: ClassVar[list[str]] = []
    url = "https://www.php.net/"

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"startinline": True, **options})
