"""npm: packages and what they need into `node_modules` of the layer.

Build scripts run; they are in a sandbox. Where there is Node.js without npm, npm itself comes
from the registry, one known version of it.
"""

import json
import os
import sys
from typing import Dict, List

from .context import Context, InstallFailed, Json, resolved

# A release as the registry has it for good: what is published is never changed.
_NPM = "/npm/-/npm-10.9.2.tgz"
_NPM_SHA512 = (
    "8ab88f10f224a0c614cb717a7f7c30499014f77134120e9c1f0211ea3cf33975"
    "92cbe483feb38e0c4b3be1c54e347292c76a1b5edb94a3289d5448484ab8ac81"
)
_REMEDY = "Install Node.js, or use an image that has it, such as sandbox-kernel/javascript."


def install(context: Context) -> List[Json]:
    """Fill `node_modules` of the layer; what was installed."""
    node = context.program("node", _REMEDY)
    environment = _environment(context)
    texts = [item.text for item in context.wanted]
    options = ["--prefix", context.layer, "--no-audit", "--no-fund", "--no-update-notifier"]
    command = [*_npm(context, node), "install", *options, "--", *texts]
    context.must_run(command, environment, context.layer)
    lock = os.path.join(context.layer, "package-lock.json")
    with open(lock, encoding="utf-8") as file:
        packages = json.load(file)["packages"]
    for name in ("package.json", "package-lock.json"):
        os.unlink(os.path.join(context.layer, name))
    return [
        resolved(
            item.get("name") or path.rpartition("node_modules/")[2],
            item.get("version"),
            item.get("integrity"),
        )
        for path, item in packages.items()
        if path and not item.get("link")
    ]


def _environment(context: Context) -> Dict[str, str]:
    configuration = os.path.join(context.scratch, "npmrc")
    with open(configuration, "w", encoding="utf-8") as file:
        for scope, path in context.settings.get("scopes", {}).items():
            file.write("%s:registry=%s\n" % (scope, context.url(path)))
    # Their absence is fine: these name files that are ours alone.
    nowhere = os.path.join(context.scratch, "no-npmrc")
    values = {
        "npm_config_registry": context.url(context.settings["registry"]),
        "npm_config_userconfig": configuration,
        "npm_config_globalconfig": nowhere,
        "npm_config_cache": os.path.join(context.scratch, "npm-cache"),
        "npm_config_fetch_retries": "1",
        "npm_config_progress": "false",
        "npm_config_loglevel": "error",  # its warnings are about our settings
        "PYTHON": sys.executable,  # for packages that are compiled
        "npm_config_replace_registry_host": "never",
    }
    if os.path.isdir("/usr/include/node"):
        values["npm_config_nodedir"] = "/usr"  # headers to build against, else downloaded
    return context.environment(**values)


def _npm(context: Context, node: str) -> List[str]:
    import shutil

    # Beside its Node.js where that has one: what pip installs as `bin/npm` was a link once,
    # and finds nothing as the copy that it is.
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(node)))
    own = os.path.join(prefix, "lib", "node_modules", "npm", "bin", "npm-cli.js")
    if os.path.isfile(own):
        return [node, own]
    found = shutil.which("npm")
    if found is not None:
        return [found]
    context.say("There is no npm here: taking it from the registry.")
    return [node, os.path.join(_fetch_npm(context), "package", "bin", "npm-cli.js")]


def _fetch_npm(context: Context) -> str:
    import hashlib
    import io
    import tarfile
    import urllib.error
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        address = context.url(context.settings["registry"].rstrip("/") + _NPM)
        with opener.open(address, timeout=120) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise InstallFailed(
            "There is no npm in this sandbox, and the registry did not give it: %s. Install npm, "
            "or use an image that has it." % error
        ) from None
    if hashlib.sha512(content).hexdigest() != _NPM_SHA512:
        raise InstallFailed("The registry gave an npm that is not the one of that version.")
    directory = os.path.join(context.scratch, "npm")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(directory)
    return directory
