"""What may be asked for, and what is refused by name (THREATS 51)."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as Reference
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from sandbox_kernel.dependencies.requirements import (
    ECOSYSTEMS,
    MAX_REQUIREMENTS,
    Requirement,
    parse,
    parse_all,
    split,
)
from sandbox_kernel.errors import DependencyRefused

ACCEPTED = [
    ("pip", "pandas", "pandas"),
    ("pip", "pandas==3.*", "pandas==3.*"),
    ("pip", "Scikit_Learn >= 1.4, < 2", "scikit-learn<2,>=1.4"),
    ("pip", "pandas[excel, HTML]~=2.2", "pandas[excel,html]~=2.2"),
    ("pip", "torch==2.4.0+cpu", "torch==2.4.0+cpu"),
    ("pip", "numpy (>=2)", "numpy>=2"),
    ("pip", "x==1!2.0rc1.post2.dev3", "x==1!2.0rc1.post2.dev3"),
    ("npm", "lodash", "lodash"),
    ("npm", "lodash@^4.17", "lodash@^4.17"),
    ("npm", "@types/node@>=18 <21", "@types/node@>=18 <21"),
    ("npm", "react@18.x || 19.0.0-rc.1", "react@18.x || 19.0.0-rc.1"),
    ("npm", "left-pad@1.0 - 1.3", "left-pad@1.0 - 1.3"),
    ("npm", "typescript@next", "typescript@next"),
    ("npm", "JSONStream@*", "JSONStream@*"),
    ("apt", "jq", "jq"),
    ("apt", "g++", "g++"),
    ("apt", "libssl3=3.0.11-1~deb12u2", "libssl3=3.0.11-1~deb12u2"),
    ("apt", "tzdata=1:2024a-0+deb12u1", "tzdata=1:2024a-0+deb12u1"),
    ("apk", "jq=1.7.1-r0", "jq=1.7.1-r0"),
    ("gem", "rack:3.1", "rack:3.1"),
    ("gem", "rails:~> 7.0", "rails:~> 7.0"),
    ("gem", "nokogiri", "nokogiri"),
    ("cran", "jsonlite", "jsonlite"),
    ("cran", "data.table==1.15.4", "data.table==1.15.4"),
]

REFUSED_EVERYWHERE = [
    "--index-url=https://evil.example/simple",
    "-r requirements.txt",
    "-rrequirements.txt",
    "-e .",
    " --pre",
    "git+https://github.com/a/b",
    "https://evil.example/a.tar.gz",
    "HTTP://evil.example/a.tar.gz",
    "file:///etc/passwd",
    "file:a",
    "pandas @ https://evil.example/a.whl",
    "./local",
    "../up",
    "/etc/passwd",
    "~/x",
    "a/b",
    "a\\b",
    "pandas\n--index-url=x",
    "pandas\rx",
    "pandas\0x",
    "pandas\t--pre",
    "pandas; os_name == 'posix'",
    "pandas --pre",
    "pandas|sh",
    "pandas`id`",
    "$(id)",
    "pandas && id",
    "pаndas",  # a Cyrillic letter
    "",
    "   ",
    "x" * 201,
    ".",
    "@",
    "_x",
    "é",
    "\ud800",
]
REFUSED = [
    ("pip", "pandas=3"),
    ("pip", "pandas===3"),
    ("pip", "pandas==three"),
    ("pip", "pandas>=3.*"),
    ("pip", "pandas~=3"),
    ("pip", "pandas[a;b]"),
    ("pip", "pandas[--x]"),
    ("pip", "pandas=="),
    ("pip", "pandas==1,,>0"),
    ("pip", "pandas 3"),
    ("pip", "a@b"),
    ("npm", "lodash@npm:evil@1"),
    ("npm", "lodash@file:x"),
    ("npm", "lodash@user/repository"),
    ("npm", "user/repository"),
    ("npm", "@scope/name/more"),
    ("npm", "@scope/../x"),
    ("npm", "package.tgz"),
    ("npm", "lodash@package.tgz"),
    ("npm", "package.tar.gz"),
    ("npm", "lodash@github:a/b"),
    ("npm", "lodash@git+ssh://x"),
    ("npm", ".bin"),
    ("apt", "jq-"),
    ("apt", "jq/bookworm"),
    ("apt", "jq=*"),
    ("apt", "package.deb"),
    ("apt", "^lib.*"),
    ("apt", "JQ"),
    ("apk", "jq>1"),
    ("apk", "jq@edge"),
    ("gem", "rack:git"),
    ("gem", "rack-3.1.gem"),
    ("gem", "rack:3.1 --source x"),
    ("cran", "a"),
    ("cran", "user/package"),
    ("cran", 'x", repos="http://evil'),
    ("pypi", "pandas"),
]


@pytest.mark.parametrize(("ecosystem", "text", "expected"), ACCEPTED)
def test_a_package_of_an_index_is_understood(ecosystem, text, expected):
    assert parse(ecosystem, text).text == expected


@pytest.mark.parametrize("ecosystem", ECOSYSTEMS)
@pytest.mark.parametrize("text", REFUSED_EVERYWHERE)
def test_whatever_is_no_package_is_refused_by_every_ecosystem(ecosystem, text):
    assert_refused(ecosystem, text)


@pytest.mark.parametrize(("ecosystem", "text"), REFUSED)
def test_what_an_installer_would_take_for_something_else_is_refused(ecosystem, text):
    assert_refused(ecosystem, text)


def assert_refused(ecosystem, text):
    with pytest.raises(DependencyRefused) as caught:
        parse(ecosystem, text)
    message = str(caught.value)
    assert message.isascii() or "…" in message
    assert message.isprintable(), "it is shown to people"
    assert ascii(text)[1:-1][:20] in message, "it has the value"
    assert message.endswith(".")


@given(st.sampled_from(ECOSYSTEMS), st.text(max_size=40))
@example("npm", "@a/b@" + "1 " * 15)
def test_what_is_accepted_is_one_harmless_argument_and_stays_itself(ecosystem, text):
    try:
        found = parse(ecosystem, text)
    except DependencyRefused:
        return
    assert found.text.isascii()
    assert found.text.isprintable()
    assert not found.text.startswith(("-", ".", "/", "~"))
    assert re.fullmatch(r"(@[\w.~-]+/)?[A-Za-z0-9][\w.+~-]*", found.name)
    assert parse(ecosystem, found.text) == found


_TOKENS = st.lists(
    st.sampled_from(
        [
            *("pandas", "a-b_c.d", "[x]", "[x,y]", "==", ">=", "<=", "<", ">", "!=", "~=", "==="),
            *(
                "1",
                "1.0",
                ".*",
                "*",
                "rc1",
                ".dev2",
                "+local",
                "1!2",
                ",",
                " ",
                "v1",
                "-1",
                "post3",
            ),
            *("(", ")", "@", ";", "a1", ".", "0.0.0", "c3", "preview", "_"),
        ]
    ),
    max_size=9,
).map("".join)


@given(_TOKENS)
@example("pandas==1.0.dev2")
@example("pandas==1.0rc1post3")
def test_what_is_accepted_for_pip_is_what_packaging_accepts_and_means_the_same(text):
    try:
        found = parse("pip", text)
    except DependencyRefused:
        return
    try:
        reference = Reference(text)
    except InvalidRequirement as error:
        raise AssertionError(f"{text!r} was accepted as {found}") from error
    assert found.name == canonicalize_name(reference.name)
    assert SpecifierSet(found.version_spec) == reference.specifier
    assert set(found.extras) == {canonicalize_name(extra) for extra in reference.extras}


@given(
    st.sampled_from(["==", "!=", ">=", "<=", "<", ">", "~="]),
    st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,2}){0,3}((a|b|rc)[0-9])?(\.post[0-9])?", fullmatch=True),
)
def test_every_common_version_is_accepted(operator, version):
    try:
        SpecifierSet(operator + version)
    except InvalidSpecifier:
        assert_refused("pip", f"pandas{operator}{version}")
    else:
        assert parse("pip", f"pandas{operator}{version}").version_spec


@pytest.mark.parametrize("ecosystem", ECOSYSTEMS)
@pytest.mark.parametrize(
    "piece", ["1 ", "1", "a", "-", ".", "@1 ", "|| 1 ", "^1 - ", "==1,", "[", "~", "1-"]
)
def test_no_text_takes_long_to_refuse(ecosystem, piece):
    text = ("a@" if ecosystem == "npm" else "a==") + piece * 200
    began_s = time.process_time()
    for length in (60, 120, 199):
        for ending in ("", "!", "\x7f"):
            try:
                parse(ecosystem, text[:length] + ending)
            except DependencyRefused:
                continue
    assert time.process_time() - began_s < 1


# --- several ----------------------------------------------------------------------------


def test_prefixes_name_the_index_of_another_language():
    found = parse_all(["npm:lodash@^4", "apt:jq", "pandas==3.*"], "pip")
    assert found == [
        Requirement("apt", "jq"),
        Requirement("npm", "lodash", "^4"),
        Requirement("pip", "pandas", "==3.*"),
    ]
    assert [item.title for item in found] == ["apt:jq", "npm:lodash@^4", "pandas==3.*"]


def test_order_spelling_and_repetition_do_not_matter():
    assert parse_all(["b", "A_a>=1", "b", "a.a >=1"], "pip") == parse_all(["a-a>=1", "b"], "pip")


def test_one_package_in_two_versions_is_refused_with_both():
    with pytest.raises(DependencyRefused, match=r"pandas==2.*pandas==3|pandas==3.*pandas==2"):
        parse_all(["pandas==2", "Pandas==3"], "pip")


def test_more_than_two_hundred_packages_are_refused():
    names = [f"p{number}" for number in range(MAX_REQUIREMENTS)]
    assert len(parse_all(names, "pip")) == MAX_REQUIREMENTS
    with pytest.raises(DependencyRefused, match="more than 200"):
        parse_all([*names, "one-more"], "pip")


def test_a_language_without_an_index_wants_a_prefix():
    with pytest.raises(DependencyRefused, match="pip:jq"):
        parse_all(["jq"], "")
    assert parse_all(["apt:jq"], "") == [Requirement("apt", "jq")]


@pytest.mark.parametrize("ecosystem", ["pip", ""])
def test_a_prefix_that_is_none_is_told_from_a_version(ecosystem):
    with pytest.raises(DependencyRefused, match=r"'conda:numpy'.*conda: is no .*index.*npm:"):
        parse_all(["conda:numpy"], ecosystem)


def test_a_prefix_does_not_smuggle_an_address_in():
    for text in ("npm:https://evil.example/x.tgz", "pip:-r x", "npm:npm:x", "apt:pip:x", "npm:"):
        with pytest.raises(DependencyRefused):
            parse_all([text], "pip")


def test_a_line_is_split_like_a_shell_does_without_being_one():
    assert split("pandas 'numpy >=1, <2' # why") == ["pandas", "numpy >=1, <2"]
    assert split("$(id) *") == ["$(id)", "*"]
    with pytest.raises(DependencyRefused, match="quotation mark"):
        split("pandas 'numpy")
