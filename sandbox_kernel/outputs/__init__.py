"""The output policy: what a guest shows -> what a browser or terminal may see. Pure, no I/O.

`OutputPolicy` names the policy and admits rich outputs, tracebacks, generated files and
payloads; `StreamCleaner` does streams, `CommGate` does widgets.

Rule 1: everything here comes from a hostile guest: any type, any size, any nesting. Nothing
raises for it; what cannot be shown is replaced by a line that says so.
Rule 2: a type that no rule names is dropped. `trusted` is the only way around a rule.
Rule 3: the type comes from the bytes, never from a name.
Rule 4: importing this package must stay cheap, the kernel does it at start. What a rule
needs (nh3, csv, a markdown parser) is imported by the rule.

One concern a file: `streams` text; `bundles` the table of MIME types, and a file for each
that takes more than a line: `html` (with `styles`), `iframe`, `markdown`, `latex`, `images`;
`filetypes` and `previews` generated files; `widgets` (with `widget_models`) comms.
To show one more MIME type: a function in `bundles` and a row in its table.
"""

from sandbox_kernel.outputs.policy import OutputPolicy, content_digest, picture_digest
from sandbox_kernel.outputs.streams import StreamCleaner, clean_name, clean_text
from sandbox_kernel.outputs.widgets import CommGate

__all__ = [
    "CommGate",
    "OutputPolicy",
    "StreamCleaner",
    "clean_name",
    "clean_text",
    "content_digest",
    "picture_digest",
]
