"""The adapter: runs cells in one long-lived interpreter of another language.

    supervisor  <- frames ->  adapter (Python, here)  <- talk ->  interpreter (one file of ours)

The interpreter runs a file beside this one, written in its own language with nothing but
that language's standard library. `talk` says how the two speak; every language file obeys it.

To add a language: write its file, and name it in a `Language(interpreter=(…,))`.
"""
