"""Python by ipykernel: the reference, inside the guest and behind the bridge.

For who needs what only ipykernel has, such as extensions that ask for its own classes.
Python's own runner starts sooner and answers faster.
"""

from sandbox_kernel.languages.base import Language

LANGUAGE = Language(
    name="ipykernel",
    display_name="Python (ipykernel)",
    file_extension=".py",
    mimetype="text/x-python",
    codemirror_mode={"name": "ipython", "version": 3},
    pygments_lexer="ipython3",
    image="sandbox-kernel/ipykernel",
    command=("python3", "{file}"),
    native_kernel=(
        '--attach=pip:__import__("sys").path.insert(0, {path} + "/lib"); '
        '__import__("importlib").invalidate_caches()',
        *("{python}", "-m", "ipykernel_launcher", "-f", "{connection_file}"),
        # The host keeps the history; a file of it would be the workspace's bytes.
        "--HistoryManager.hist_file=:memory:",
    ),
    kernel_language="python",
    ecosystem="pip",
    remedy="Install ipykernel for the sandbox's Python: pip install ipykernel.",
)
