"""Takes batches from probes: checked, stored once however often they are sent, then acknowledged.

What happens to a batch, in order: admission (bounded bytes in flight), body read (bounded, raw),
decompression, hash and strict decode in a thread (bounded), the batch's probe must be the token's,
the store inserts it durably under the token "probe_id/epoch/sequence", the batch is marked
accepted, the probe gets its 200. A crash between the last two is harmless: the probe sends again,
the store knows the token.
"""
