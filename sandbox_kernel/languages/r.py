"""R: IRkernel inside the guest, behind the bridge."""

from sandbox_kernel.languages.base import Language

LANGUAGE = Language(
    name="r",
    display_name="R",
    file_extension=".r",
    mimetype="text/x-r-source",
    codemirror_mode="r",
    pygments_lexer="r",
    image="sandbox-kernel/r",
    command=("Rscript", "{file}"),
    # `irkernel.R` starts IRkernel, with what it lacks.
    native_kernel=(
        "--attach=cran:.libPaths(c({path}, .libPaths()))",
        *("R", "--slave", "--no-save", "--no-restore"),
        *("-f", "{guest}/bridge/irkernel.R", "--args", "{connection_file}"),
    ),
    kernel_language="R",
    ecosystem="cran",
    aliases=("R",),
    remedy="Install R and IRkernel: apt-get install r-base-core r-cran-irkernel, or "
    "install.packages('IRkernel') in R.",
)
