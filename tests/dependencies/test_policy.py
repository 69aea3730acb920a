"""Who may have which packages."""

from __future__ import annotations

import json

import pytest

from sandbox_kernel import kernelspecs
from sandbox_kernel.dependencies.policy import MODES, Policy
from sandbox_kernel.dependencies.requirements import parse_all
from sandbox_kernel.errors import DependencyRefused, SettingsError
from sandbox_kernel.settings import TABLE, Settings


def make(mode="any", allowed=(), declared=(), ecosystem="pip"):
    return Policy.make(mode, ecosystem, allowed=allowed, declared=declared)


def wanted(*texts):
    return parse_all(texts, "pip")


def test_with_nothing_said_a_cell_may_have_anything():
    make().admit(wanted("pandas", "npm:lodash"))


def test_where_none_is_said_nobody_may_have_anything():
    with pytest.raises(DependencyRefused, match=r"A cell asks for pandas.*dependencies to none"):
        make("none").admit(wanted("pandas"))


def test_where_declared_is_said_a_cell_may_have_that_and_no_more():
    policy = make("declared", declared=["pandas==3.*"])
    policy.admit(wanted("pandas==3.*"))
    for text in ("pandas==2.*", "plotly", "npm:pandas"):
        with pytest.raises(DependencyRefused, match=r"declared \(pandas==3\.\*\)"):
            policy.admit(wanted(text))


def test_an_allow_list_holds_for_names_in_every_spelling_and_of_one_index():
    policy = make(allowed=["Scikit_Learn", "npm:lodash"])
    policy.admit(wanted("scikit.learn>=1", "npm:lodash@^4"))
    for text in ("pandas", "npm:scikit-learn", "lodash"):
        with pytest.raises(DependencyRefused) as caught:
            policy.admit(wanted(text), asker="The notebook's metadata")
        assert "allows (npm:lodash, scikit-learn)" in str(caught.value)
        assert str(caught.value).endswith(f" --allow-dependency={text}.")


def test_what_is_declared_need_not_be_allowed_as_well():
    make(allowed=["plotly"], declared=["pandas"]).admit(wanted("pandas"))


def test_contradicting_settings_are_refused():
    with pytest.raises(SettingsError, match=r"pandas.*none"):
        make("none", declared=["pandas"])
    with pytest.raises(SettingsError, match="index-url"):
        make(declared=["--index-url=x"])
    with pytest.raises(SettingsError, match="names only"):
        make(allowed=["pandas==3"])


def test_settings_become_a_policy_of_the_language(tmp_path):
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    options = {
        "language": "ruby",
        "dependencies": "declared",
        "dependency": "rack:3.1\npip:pandas plotly",
        "allow_dependency": "rack, pip:pandas",
    }
    policy = Policy.from_settings(Settings.load(options, environ=environ))
    assert policy.declared == tuple(parse_all(["rack:3.1", "pip:pandas", "gem:plotly"], "gem"))
    assert policy.allowed == {("gem", "rack"), ("pip", "pandas")}
    assert policy.mode == "declared"


def test_the_settings_know_the_same_modes():
    row = next(row for row in TABLE if row.name == "dependencies")
    assert [row.parse(mode) for mode in MODES] == list(MODES)


def test_wrong_packages_are_refused_when_a_kernel_is_installed(tmp_path):
    with pytest.raises(SettingsError, match="index-url"):
        kernelspecs.install({"dependency": "--index-url=x"}, prefix=str(tmp_path))
    kernelspecs.install({"dependency": "pandas\nnpm:lodash"}, prefix=str(tmp_path))
    [written] = tmp_path.rglob("kernel.json")
    argv = json.loads(written.read_text())["argv"]
    assert argv[-2:] == ["--dependency=pandas", "--dependency=npm:lodash"]
