"""What a guest is told of its layers."""

from __future__ import annotations

from sandbox_kernel.backends.base import Layer, SandboxSpec
from sandbox_kernel.dependencies import layers, requirements


def layer(name, ecosystem="pip"):
    return Layer(name, ecosystem, f"/layers/{name}")


def test_newer_packages_come_first_and_programs_with_them():
    found = [layer("new"), layer("old")]
    assert layers.environment_for(found) == {"PYTHONPATH": "/layers/new/lib:/layers/old/lib"}
    assert layers.search_path_for(found) == ("/layers/new/bin", "/layers/old/bin")


def test_what_the_owner_set_stays_behind_ours():
    spec = SandboxSpec(environment={"PYTHONPATH": "/mine", "TZ": "UTC"}, search_path=("/own",))
    applied = layers.with_layers(spec, [layer("a")])
    assert applied.environment == {"PYTHONPATH": "/layers/a/lib:/mine", "TZ": "UTC"}
    assert applied.search_path == ("/layers/a/bin", "/own")


def test_without_layers_a_spec_stays_as_it_is():
    spec = SandboxSpec(shows_layers=False)
    assert layers.with_layers(spec, []) is spec


def test_rubygems_keeps_its_own_directories():
    assert layers.environment_for([layer("a", "gem")]) == {"GEM_PATH": "/layers/a:"}


def test_r_looks_where_its_packages_are_installed():
    assert layers.environment_for([layer("a", "cran")]) == {"R_LIBS": "/layers/a"}


def test_every_ecosystem_has_its_paths():
    for ecosystem in requirements.ECOSYSTEMS:
        assert layers.environment_for([layer("a", ecosystem)])


def test_a_guest_is_told_index_and_path():
    told = layers.describe([layer("a", "npm")])
    assert told == [{"ecosystem": "npm", "path": "/layers/a"}]
