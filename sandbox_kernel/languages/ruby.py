"""Ruby: one interpreter that all cells share."""

from sandbox_kernel.languages.base import Language

LANGUAGE = Language(
    name="ruby",
    display_name="Ruby",
    file_extension=".rb",
    mimetype="text/x-ruby",
    codemirror_mode="ruby",
    pygments_lexer="ruby",
    image="sandbox-kernel/ruby",
    command=("ruby", "{file}"),
    # RubyGems is most of Ruby's own start; our file loads it when a cell needs it.
    interpreter=("--disable=gems", "-W1", "{guest}/runners/interpreter/ruby.rb"),
    ecosystem="gem",
    aliases=("rb",),
    remedy="Install Ruby (Debian: apt-get install ruby).",
)
