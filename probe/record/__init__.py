"""The contract between probe and collector: the session record and the batch that carries it.

This package is all of the probe that the collector may import. `schema` names the fields, `enums`
the closed lists of values, `codec` turns a batch into bytes and back.
"""
