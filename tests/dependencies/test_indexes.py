"""Which indexes the settings of pip, npm, apt, gem and R name, and what a builder hears of it."""

import base64

import pytest

from sandbox_kernel.dependencies import apt_settings, indexes, npm_settings, pip_settings
from sandbox_kernel.dependencies.indexes import Host
from sandbox_kernel.errors import DependencyFailed, SettingsError


@pytest.fixture
def host(tmp_path):
    """A host without settings; `write` gives it some."""
    home = tmp_path / "home"
    home.mkdir()

    class Made:
        def __init__(self):
            self.environ = {"HOME": str(home)}
            self.is_shown = True

        def write(self, path, text):
            place = home / path[2:] if path.startswith("~/") else tmp_path / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            return place

        def read(self, reader):
            return reader(Host(self.environ, str(tmp_path / "venv"), str(tmp_path), self.is_shown))

    return Made()


def bases(index):
    return [each.base or each.directory for each in index.upstreams]


def told(index):
    """Everything that enters a builder."""
    return repr(index.settings) + repr(index.files)


# --- pip --------------------------------------------------------------------------------


def test_without_settings_pip_has_pypi_and_its_files(host):
    index = host.read(pip_settings.read)
    assert bases(index) == ["https://pypi.org/", "https://files.pythonhosted.org/"]
    assert index.settings["index"] == "/h/pypi.org/simple/"
    assert index.upstreams[0].proxies is None


def test_pip_files_and_variables_are_read_in_pips_own_order(host):
    host.write("/etc/pip.conf", "[global]\nindex-url = https://global.example/simple\n")
    assert host.read(pip_settings.read).title == "https://global.example/simple"
    host.write("~/.config/pip/pip.conf", "[global]\nindex_url = https://user.example/simple\n")
    assert host.read(pip_settings.read).title == "https://user.example/simple"
    host.write("/venv/pip.conf", "[global]\nindex-url = https://site.example/simple\n")
    # Outside of /etc, so it is where it says.
    index = pip_settings.read(Host(host.environ, str(host.write("/venv/x", "").parent), "/nowhere"))
    assert index.title == "https://site.example/simple"
    host.write("/etc/pip.conf", "[install]\nindex-url = https://install.example/simple\n")
    assert host.read(pip_settings.read).title == "https://install.example/simple"
    host.environ["PIP_INDEX_URL"] = "https://variable.example/simple"
    assert host.read(pip_settings.read).title == "https://variable.example/simple"


def test_pip_without_files_is_pip_without_files(host):
    host.write("/etc/pip.conf", "[global]\nindex-url = https://global.example/simple\n")
    host.environ["PIP_CONFIG_FILE"] = "/dev/null"
    assert host.read(pip_settings.read).title == "https://pypi.org/simple"


def test_passwords_of_an_index_stay_on_the_host(host):
    host.environ["PIP_INDEX_URL"] = "https://user:can%40ary@own.example/api/repo/simple"
    host.environ["PIP_EXTRA_INDEX_URL"] = (
        "https://token-canary@more.example/simple https://x.example/"
    )
    index = host.read(pip_settings.read)
    assert index.upstreams[0].credentials == ("user", "can@ary")
    assert bases(index) == [
        "https://own.example/api/repo/",
        "https://more.example/",
        "https://x.example/",
    ]
    for text in (told(index), index.identity, index.title.replace("user:can%40ary@", "")):
        assert "canary" not in text
        assert "can%40ary" not in text
    assert index.settings["extra"] == ["/h/more.example/simple/", "/h/x.example/"]


def test_certificates_and_proxies_of_pip_are_for_its_index(host):
    host.environ.update(PIP_CERT="/own/roots.pem", PIP_PROXY="http://p:8080", PIP_CLIENT_CERT="/c")
    [first, *_] = host.read(pip_settings.read).upstreams
    assert (first.verify, first.certificate) == ("/own/roots.pem", "/c")
    assert first.proxies == {"http": "http://p:8080", "https": "http://p:8080"}
    assert "roots" not in told(host.read(pip_settings.read))


def test_certificates_are_checked_but_where_the_owner_said_not_to(host):
    host.environ["PIP_EXTRA_INDEX_URL"] = "https://lax.example/simple"
    host.environ["PIP_TRUSTED_HOST"] = "lax.example"
    found = {each.base: each.verify for each in host.read(pip_settings.read).upstreams}
    assert found["https://lax.example/"] is False
    assert found["https://pypi.org/"] is not False


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_roots_that_the_environment_names_are_trusted(host, name):
    host.environ[name] = "/company/roots.pem"
    assert host.read(pip_settings.read).upstreams[0].verify == "/company/roots.pem"


def test_directories_are_served_by_number_and_their_paths_stay_here(host, tmp_path):
    wheels, more = tmp_path / "canary wheels", tmp_path / "canary" / "simple"
    wheels.mkdir()
    more.mkdir(parents=True)
    host.write("/etc/pip.conf", f"[global]\nextra-index-url = file://{more}\n")
    host.environ["PIP_FIND_LINKS"] = f"{tmp_path}/nowhere {tmp_path / 'wheels'}"
    (tmp_path / "wheels").mkdir()
    index = host.read(pip_settings.read)
    assert index.settings["extra"] == ["/f/2/simple/"]
    assert index.settings["find_links"] == ["/f/3/"]
    assert index.upstreams[2].directory == str(tmp_path / "canary")
    assert "canary" not in told(index)


def test_no_index_means_no_index(host, tmp_path):
    host.environ.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    index = host.read(pip_settings.read)
    assert bases(index) == [str(tmp_path)]
    assert index.settings["index"] == ""


def test_constraints_are_files_for_the_builder_and_lose_their_options(host):
    path = host.write("/constraints.txt", "six==1.16\n--index-url https://evil.example\n-r /x\n")
    host.environ["PIP_CONSTRAINT"] = str(path)
    index = host.read(pip_settings.read)
    assert index.files == {"constraints-0.txt": b"six==1.16\n"}
    assert index.settings["constraints"] == ["constraints-0.txt"]


@pytest.mark.parametrize("url", ["ftp://x/simple", "https://", "nonsense://x"])
def test_an_index_that_is_no_address_is_named(host, url):
    host.environ["PIP_INDEX_URL"] = url
    with pytest.raises(SettingsError, match="is no address such as"):
        host.read(pip_settings.read)


def test_settings_that_cannot_be_read_are_named(host):
    host.write("/etc/pip.conf", "index-url = x\n")
    with pytest.raises(SettingsError, match=r"/etc/pip.conf cannot be read"):
        host.read(pip_settings.read)


def test_the_identity_follows_addresses_and_options_and_not_passwords(host):
    def identity(**variables):
        host.environ.update(variables)
        return host.read(pip_settings.read).identity

    first = identity(PIP_INDEX_URL="https://a:b@x.example/simple")
    assert first == identity(PIP_INDEX_URL="https://c:d@x.example/simple")
    assert first != identity(PIP_INDEX_URL="https://y.example/simple")
    assert first != identity(PIP_INDEX_URL="https://x.example/simple", PIP_PRE="1")


# --- npm --------------------------------------------------------------------------------


def test_npm_has_its_own_registry_without_settings(host):
    index = host.read(npm_settings.read)
    assert bases(index) == ["https://registry.npmjs.org/"]
    assert index.settings == {"registry": "/h/registry.npmjs.org/", "scopes": {}}


def test_tokens_belong_to_their_registry_and_stay_here(host):
    password = base64.b64encode(b"pass").decode()
    host.environ["TOKEN"] = "canary"
    host.write(
        "~/.npmrc",
        "; a comment\nregistry=https://own.example/npm\n@scope:registry=https://s.example/a/b/\n"
        "//own.example/npm/:_authToken=${TOKEN}\n//s.example/a/:username=canary\n"
        f"//s.example/a/:_password={password}\n//other.example/:_authToken=canary2\n",
    )
    index = host.read(npm_settings.read)
    assert bases(index) == ["https://own.example/npm/", "https://s.example/a/b/"]
    own, scoped = (each.authorization for each in index.upstreams)
    assert own == "Bearer canary"
    assert base64.b64decode(scoped.removeprefix("Basic ")) == b"canary:pass"
    assert "canary" not in told(index) + index.identity + index.title
    assert index.settings["scopes"] == {"@scope": "/h/s.example/a/b/"}


def test_npm_variables_win_over_files(host):
    host.write("~/.npmrc", "registry=https://file.example/\nstrict-ssl=true\ncafile=/f.pem\n")
    host.environ.update(
        npm_config_registry="https://variable.example/",
        NPM_CONFIG_HTTPS_PROXY="http://p:1",
        npm_config_strict_ssl="false",
    )
    [found] = host.read(npm_settings.read).upstreams
    assert (found.base, found.verify) == ("https://variable.example/", False)
    assert found.proxies == {"https": "http://p:1"}


# --- apt --------------------------------------------------------------------------------

SOURCES = """Types: deb
# URIs: http://comment.example/
URIs: https://user:canary@mirror.example/debian http://deb.debian.org/debian
Suites: bookworm
Components: main
Signed-By: /etc/apt/keyrings/own.gpg
"""


def test_a_guest_that_sees_the_host_gets_its_sources_and_keys_without_passwords(host):
    host.write("/etc/apt/sources.list.d/own.sources", SOURCES)
    host.write("/etc/apt/sources.list", "deb [arch=amd64] http://plain.example/x stable main\n")
    host.write("/etc/apt/keyrings/own.gpg", "ring")
    host.write("/etc/apt/trusted.gpg.d/all.asc", "key")
    host.write("/etc/apt/auth.conf.d/x", "machine plain.example login me password canary\n")
    host.write("/var/lib/dpkg/status", "Package: base\n")
    host.write("/etc/apt/apt.conf.d/9", 'Acquire::Check-Date "false";\nDPkg::Pre-Invoke {"x";};\n')
    index = host.read(apt_settings.read)
    assert bases(index) == [
        "http://plain.example/x/",
        "https://mirror.example/debian/",
        "http://deb.debian.org/debian/",
    ]
    assert [each.credentials for each in index.upstreams] == [
        ("me", "canary"),
        ("user", "canary"),
        None,
    ]
    assert "canary" not in told(index)
    assert index.files == {
        "key-all.asc": b"key",
        "ring-own.gpg": b"ring",
        "dpkg-status": b"Package: base\n",
    }
    assert "/workspace/.installer/ring-own.gpg" in index.settings["sources"]["own.sources"]
    assert index.settings["options"] == {"Acquire::Check-Date": "false"}


def test_a_guest_with_an_image_has_its_own_sources_and_the_distributions_mirrors(host):
    host.write("/etc/apt/sources.list", "deb http://plain.example/x stable main\n")
    host.write("/var/lib/dpkg/status", "Package: canary\n")
    host.is_shown = False
    index = host.read(apt_settings.read)
    assert "http://deb.debian.org/" in bases(index)
    assert index.settings["sources"] == {}
    assert index.files == {}


# --- gem and R --------------------------------------------------------------------------


def test_gems_come_from_rubygems_or_from_where_gemrc_says(host):
    assert bases(host.read(indexes._read_gem))[0] == "https://rubygems.org/"
    host.write(
        "~/.gemrc", "---\n:sources:\n- https://user:canary@own.example/gems\n:verbose: true\n"
    )
    index = host.read(indexes._read_gem)
    assert bases(index) == ["https://own.example/gems/"]
    assert index.upstreams[0].credentials == ("user", "canary")
    assert "canary" not in told(index) + index.identity + index.title


def test_r_packages_come_from_cran_or_from_where_the_profile_says(host):
    index = host.read(indexes._read_cran)
    assert index.settings == {"repositories": ["/h/cloud.r-project.org"]}
    host.write(
        "~/.Rprofile",
        '# CRAN = "https://comment.example"\noptions(repos = c(CRAN = "https://own.example/cran"))\n',
    )
    assert bases(host.read(indexes._read_cran)) == ["https://own.example/cran/"]


def test_an_ecosystem_without_an_installer_is_named():
    with pytest.raises(DependencyFailed, match="apk cannot be installed"):
        indexes.read("apk", {})
