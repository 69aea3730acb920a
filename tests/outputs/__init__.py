"""Tests of the output policy."""
