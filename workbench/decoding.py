"""Decoding of untrusted JSON: exceptions to catch beside those that msgspec names.

A document that is nested too deeply is a RecursionError, and a text with half a surrogate pair a
UnicodeError.
"""

import msgspec

UNDECODABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
"""Every way in which msgspec refuses a document."""
