"""The MCP server: `sandbox-kernel mcp`, on the official SDK.

    arguments   what a client may send, checked
    tools       the tools: what they are called, say of themselves, and do
    contents    results -> what MCP calls content, bounded and marked as data
    resources   files of the workspace as resources
    clients     what one client may use: its own sessions, and nobody else's
    progress    output -> progress notifications
    server      the SDK's server, with our tools
    stdio       served to whoever started us, on stdin and stdout
    http        served at a loopback address; `guard` decides who comes in, and
    visits      knows which clients are there, and when they are gone

Rule 1: one client never sees or uses another's sessions; ids are looked up among its own.
Rule 2: what a model reads has passed `ai.bounds`; what it sends has passed `arguments`.
Rule 3: a client hears whole sentences: what it did wrong is a result with `isError`.
Rule 4: `mcp` is the SDK here, since imports are absolute; only what serves imports it.
"""
