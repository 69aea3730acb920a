"""CRAN: R packages into the layer, which is one of R_LIBS."""

import os
from typing import List

from .context import Context, Json, file_checksum, resolved

_REMEDY = "Install R, or use an image that has it."

# Arguments: library, directory for archives, repositories, then names.
_SCRIPT = r"""
arguments <- commandArgs(trailingOnly = TRUE)
library_path <- arguments[[1]]
names <- arguments[-(1:3)]
.libPaths(c(library_path, .libPaths()))
options(repos = strsplit(arguments[[3]], " ", fixed = TRUE)[[1]], timeout = 120, warn = 1)
missing <- setdiff(names, rownames(available.packages()))
if (length(missing)) stop("package '", missing[[1]], "' is not available")
install.packages(names, lib = library_path, destdir = arguments[[2]])
lost <- setdiff(names, rownames(installed.packages(lib.loc = library_path)))
if (length(lost)) stop("package '", lost[[1]], "' could not be built")
"""


def install(context: Context) -> List[Json]:
    """Fill the layer; what was installed."""
    program = context.program("Rscript", _REMEDY)
    archives = os.path.join(context.scratch, "archives")
    os.mkdir(archives)
    script = os.path.join(context.scratch, "install.R")
    with open(script, "w", encoding="utf-8") as file:
        file.write(_SCRIPT)
    repositories = " ".join(map(context.url, context.settings["repositories"]))
    environment = context.environment(R_LIBS_USER="NULL", R_PROFILE_USER="", R_ENVIRON_USER="")
    command = [program, "--no-save", "--no-restore", "--no-init-file", script]
    names = [item.name for item in context.wanted]
    context.must_run([*command, context.layer, archives, repositories, *names], environment)
    packages = []
    for name in sorted(os.listdir(archives)):
        if name.endswith(".tar.gz"):
            package, _, version = name[: -len(".tar.gz")].partition("_")
            path = os.path.join(archives, name)
            packages.append(resolved(package, version, file_checksum(path)))
    return packages
