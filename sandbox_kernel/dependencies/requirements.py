"""Texts such as `pandas[excel]>=2,<3` to requirements; everything else is refused.

The words come from cells, which a model may have written, and end up as arguments of an
installer. So what is accepted is a name and versions, by a grammar of our own that is a
part of the installer's; not what some installer happens to take.

Rule 1: a requirement can be no option, path, address, file or second command: every
        accepted text begins with a letter, a digit or `@` and holds no colon, slash, space
        or quote but where the grammar has them.
Rule 2: a refusal is one sentence with the value.
Rule 3: standard library without `packaging`, whose import takes 50 ms of a start-up; a
        test compares the two.

To add an ecosystem: a function `_<name>` and a row in `_PARSERS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sandbox_kernel.errors import DependencyRefused

MAX_CHARACTERS = 200
MAX_REQUIREMENTS = 200


class Requirement(NamedTuple):
    """One package. All fields are as its installer spells them, normalised.

    Args:
        name: `scikit-learn`; npm's with its scope (`@types/node`).
        version_spec: `>=2,<3` for pip, `^4` for npm, `1.2-3` for apt, `~> 7.0` for gems;
            "" for any.
        extras: pip's, sorted.
    """

    ecosystem: str
    name: str
    version_spec: str = ""
    extras: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As its installer wants it, one argument."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        between = _BETWEEN[self.ecosystem] if self.version_spec else ""
        return f"{self.name}{extras}{between}{self.version_spec}"

    @property
    def title(self) -> str:
        """For a reader: with the ecosystem where that is not plain."""
        return self.text if self.ecosystem == "pip" else f"{self.ecosystem}:{self.text}"


def parse(ecosystem: str, text: str) -> Requirement:
    """The requirement that `text` is in `ecosystem`.

    Raises:
        DependencyRefused: it is none; one sentence with the value.
    """
    if ecosystem not in _PARSERS:
        raise DependencyRefused(
            f"{_shown(text)} cannot be installed: there is no package index called "
            f"{_shown(ecosystem)}; there are {', '.join(_PARSERS)}."
        )
    _require_plain(ecosystem, text)
    return _PARSERS[ecosystem](text)


def parse_all(texts: Iterable[str], ecosystem: str) -> list[Requirement]:
    """The requirements in `texts`, sorted, each once.

    Args:
        ecosystem: of those without a prefix such as `npm:`; "" when the language has none.

    Raises:
        DependencyRefused: one is none, there are too many, or two contradict each other.
    """
    found: dict[tuple[str, str], Requirement] = {}
    for text in texts:
        requirement = _parse_prefixed(text, ecosystem)
        place = (requirement.ecosystem, requirement.name)
        other = found.setdefault(place, requirement)
        if other != requirement:
            raise DependencyRefused(
                f"{_shown(requirement.text)} and {_shown(other.text)} ask for one package in two "
                "ways; write it once."
            )
        if len(found) > MAX_REQUIREMENTS:
            raise DependencyRefused(
                f"There are more than {MAX_REQUIREMENTS} packages, beginning with "
                f"{_shown(requirement.text)}; ask for fewer at once."
            )
    return sorted(found.values())


def split(line: str) -> list[str]:
    """The words of a line; quotes keep spaces together, and `#` begins a comment.

    Raises:
        DependencyRefused: a quotation mark is not closed.
    """
    import shlex

    try:
        return shlex.split(line, comments=True)
    except ValueError:
        raise DependencyRefused(
            f"{_shown(line)} has a quotation mark that is not closed."
        ) from None


def canonical_name(ecosystem: str, name: str) -> str:
    """`name` as every spelling of it is compared."""
    if ecosystem == "pip":
        return re.sub(r"[-_.]+", "-", name).lower()
    return name


def _parse_prefixed(text: str, ecosystem: str) -> Requirement:
    prefix, colon, rest = text.partition(":")
    if colon and prefix in _PARSERS:
        return parse(prefix, rest)
    # Gems are written with one before their version, `rack:3.1`.
    is_prefix = colon and ecosystem != "gem" and re.fullmatch(r"[a-z]{2,10}", prefix)
    if is_prefix and re.fullmatch(r"[\w@][^/:]*", rest):
        known = ", ".join(f"{one}:" for one in _PARSERS)
        raise _refused(text, f"{prefix}: is no package index; there are {known}")
    if not ecosystem:
        name = text.strip()[:60] or "NAME"
        raise DependencyRefused(
            f"{_shown(text)} does not say where it comes from, and this language has no package "
            f"index of its own; write for example apt:{name}, pip:{name} or npm:{name}."
        )
    return parse(ecosystem, text)


# --- what no package index has ---------------------------------------------------------


def _require_plain(ecosystem: str, text: str) -> None:
    """Refuse at once, and by name, what people and attackers write instead of a name."""
    if len(text) > MAX_CHARACTERS:
        raise DependencyRefused(
            f"{_shown(text)} cannot be installed: it is over {MAX_CHARACTERS} characters long."
        )
    if not text.isascii() or not text.isprintable():
        raise _refused(text, "it has characters other than printable ASCII")
    if not text.strip():
        raise _refused(text, "it is empty")
    if text.lstrip().startswith("-"):
        raise _refused(text, "options are for the owner of the kernel, and it begins with a dash")
    lower = text.lower()
    if "://" in text or lower.startswith(("git+", "file:", "http:", "https:", "git:", "ssh:")):
        raise _refused(text, "only packages of the index can be installed, and it is an address")
    is_scoped = ecosystem == "npm" and text.startswith("@") and text.count("/") == 1
    if text.startswith((".", "~")) or "\\" in text or ("/" in text and not is_scoped):
        raise _refused(text, "only packages of the index can be installed, and it is a path")
    if " @ " in text or (ecosystem == "pip" and "@" in text):
        raise _refused(text, "a package cannot be given by address")
    if ";" in text:
        raise _refused(text, "conditions after a semicolon are not understood")


def _refused(text: str, why: str) -> DependencyRefused:
    return DependencyRefused(f"{_shown(text)} cannot be installed: {why}.")


def _no_match(text: str, form: str) -> DependencyRefused:
    return _refused(text, f"it is not {form}")


def _shown(text: str) -> str:
    """`text` for a message: nothing unprintable, not endless."""
    return ascii(text if len(text) <= 80 else text[:80] + "…")


# --- one grammar an ecosystem ------------------------------------------------------------

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
# PEP 440's versions, as they are written there; `packaging` takes the same.
_RELEASE = r"v?(?:\d+!)?\d+(?:\.\d+)*"
_PRE = r"(?:[-_.]?(?:alpha|a|beta|b|preview|pre|c|rc)[-_.]?\d*)?"
_POST = r"(?:-\d+|[-_.]?(?:post|rev|r)[-_.]?\d*)?"
_DEV = r"(?:[-_.]?dev[-_.]?\d*)?"
_LOCAL = r"(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?"
_CLAUSES = (
    rf"(?:==|!=)\s*{_RELEASE}(?:\.\*|{_PRE}{_POST}{_DEV}{_LOCAL})",
    rf"~=\s*v?(?:\d+!)?\d+(?:\.\d+)+{_PRE}{_POST}{_DEV}",
    rf"(?:<=|>=|<|>)\s*{_RELEASE}{_PRE}{_POST}{_DEV}",
)


def _pip(text: str) -> Requirement:
    match = re.fullmatch(rf"\s*({_NAME})\s*(?:\[([^\[\]]*)\])?\s*(.*?)\s*", text)
    if match is None:
        raise _no_match(text, "a name with versions, such as pandas>=2,<3")
    name, extras, clauses = match[1], match[2] or "", match[3]
    if clauses.startswith("(") and clauses.endswith(")"):
        clauses = clauses[1:-1].strip()
    return Requirement(
        "pip", canonical_name("pip", name), _pip_versions(text, clauses), _pip_extras(text, extras)
    )


def _pip_extras(text: str, extras: str) -> tuple[str, ...]:
    names = [extra.strip() for extra in extras.split(",")] if extras.strip() else []
    for extra in names:
        if not re.fullmatch(_NAME, extra):
            raise _refused(text, f"{_shown(extra)} is not the name of an extra")
    return tuple(sorted({canonical_name("pip", extra) for extra in names}))


def _pip_versions(text: str, clauses: str) -> str:
    found = set()
    for clause in clauses.split(",") if clauses else []:
        clause = clause.strip()
        if not re.fullmatch("|".join(_CLAUSES), clause, re.IGNORECASE):
            raise _refused(
                text, f"{_shown(clause)} is not a version such as ==3.*, >=2 or ~=1.4 (PEP 440)"
            )
        found.add("".join(clause.split()).lower())
    return ",".join(sorted(found))


_NPM_NUMBER = r"(?:\d+|[xX*])"
_NPM_VERSION = (
    rf"v?{_NPM_NUMBER}(?:\.{_NPM_NUMBER}){{0,2}}"
    r"(?:-[0-9A-Za-z][0-9A-Za-z.-]*)?(?:\+[0-9A-Za-z.-]+)?"
)
_NPM_CLAUSE = rf"(?:\^|~|>=|<=|>|<|=)?\s*{_NPM_VERSION}"
_NPM_SET = rf"(?:{_NPM_CLAUSE}(?:\s+{_NPM_CLAUSE})*|{_NPM_VERSION}\s+-\s+{_NPM_VERSION})"
# Tags such as `latest`; without a dot, since npm takes `x.tgz` for a file.
_NPM_RANGE = rf"{_NPM_SET}(?:\s*\|\|\s*{_NPM_SET})*|[A-Za-z][A-Za-z0-9-]*"
_NPM_NAME = r"(?:@[A-Za-z0-9][A-Za-z0-9._~-]*/)?[A-Za-z0-9][A-Za-z0-9._~-]*"
_FILES = (".tgz", ".tar", ".tar.gz", ".gem", ".whl", ".zip", ".deb", ".apk")


def _npm(text: str) -> Requirement:
    match = re.fullmatch(rf"({_NPM_NAME})(?:@\s*({_NPM_RANGE}))?", text.strip())
    if match is None:
        raise _no_match(text, "a name with a version or range, such as lodash@^4 or @types/node")
    _require_no_file(text, match[1])
    return Requirement("npm", match[1], " ".join((match[2] or "").split()))


def _require_no_file(text: str, name: str) -> None:
    """Installers take these endings for archives in the working directory."""
    if name.lower().endswith(_FILES):
        raise _refused(text, "only packages of the index can be installed, and it is a file")


def _apt(text: str) -> Requirement:
    # A dash or plus at the end of a name means something else to apt: remove it, keep it.
    match = re.fullmatch(
        r"([a-z0-9][a-z0-9+.-]*[a-z0-9+])(?:=(\d[A-Za-z0-9.+:~-]*))?", text.strip()
    )
    if match is None:
        raise _no_match(text, "a name or name=version, such as jq or jq=1.6-2.1")
    _require_no_file(text, match[1])
    return Requirement("apt", match[1], match[2] or "")


def _apk(text: str) -> Requirement:
    match = re.fullmatch(r"([a-z0-9][a-z0-9+._-]*)(?:=(\d[A-Za-z0-9._]*(?:-r\d+)?))?", text.strip())
    if match is None:
        raise _no_match(text, "a name or name=version, such as jq or jq=1.7.1-r0")
    _require_no_file(text, match[1])
    return Requirement("apk", match[1], match[2] or "")


def _gem(text: str) -> Requirement:
    match = re.fullmatch(
        rf"({_NAME})(?::\s*((?:~>|>=|<=|!=|=|<|>)?\s*\d+(?:\.[0-9A-Za-z]+)*))?", text.strip()
    )
    if match is None:
        raise _no_match(text, "a name or name:version, such as nokogiri or rack:3.1")
    _require_no_file(text, match[1])
    operator, version = re.fullmatch(r"(\D*?)\s*(\d.*)?", match[2] or "").groups()  # type: ignore[union-attr]
    return Requirement("gem", match[1], f"{operator.strip()} {version}".strip() if version else "")


def _cran(text: str) -> Requirement:
    match = re.fullmatch(
        r"([A-Za-z][A-Za-z0-9.]*[A-Za-z0-9])(?:==?(\d+(?:[.-]\d+)*))?", text.strip()
    )
    if match is None:
        raise _no_match(text, "the name of an R package, such as jsonlite or jsonlite==1.8.8")
    _require_no_file(text, match[1])
    return Requirement("cran", match[1], match[2] or "")


_PARSERS: dict[str, Callable[[str], Requirement]] = {
    "pip": _pip,
    "npm": _npm,
    "apt": _apt,
    "apk": _apk,
    "gem": _gem,
    "cran": _cran,
}
ECOSYSTEMS = tuple(_PARSERS)
# Between a name and its version, as the installer wants it.
_BETWEEN = {"pip": "", "npm": "@", "apt": "=", "apk": "=", "gem": ":", "cran": "=="}
