"""Incidents: a cell in clear trouble for a window is reported once, updated, closed on recovery.

`window` says what a cell did in some minutes, `judgement` what that means, `incident` what follows
for an incident; these three are pure. `book` keeps incidents in the state file, `evaluation` goes
through the windows of the store in order, `operations` answers over HTTP.
"""
