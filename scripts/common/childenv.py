"""Names of the environment variables by which a build and the children that it starts speak to each other."""

from __future__ import annotations

#: The parent's process id, for children that shall die with it.
LIFELINE = "INGOT_PARENT"
#: Set where a child's standard input is nothing but its parent's end of a pipe, for the child to watch.
LIFELINE_PIPE = "INGOT_PARENT_PIPE"
#: The file in which a verb that fails leaves its reason, so that nobody has to parse a log.
REASON_FILE = "INGOT_REASON_FILE"
#: The file in which `links.link` notes whose ctime it changed.
LINK_JOURNAL = "INGOT_LINK_JOURNAL"
#: The lock, named after the work folder, that a child holds for as long as it lives.
CHILD_LOCK = "INGOT_CHILD_LOCK"
#: The file in which a child notes what it computes for its parent to watch, see `watch`.
NOTES = "INGOT_NOTES"
#: The file with the private key by which packages are signed, and its password: the user's to set, and in no file.
SIGNING_KEY, SIGNING_PASSWORD = "INGOT_SIGNING_KEY", "INGOT_SIGNING_PASSWORD"
#: What a build tells a child for itself alone: the child's own children must not take it for their own.
PRIVATE = (LIFELINE, LIFELINE_PIPE, REASON_FILE, CHILD_LOCK, NOTES)
