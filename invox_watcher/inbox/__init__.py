"""The inbox: watches it, waits until a recording is complete, and offers it. Knows nothing of jobs.

`watcher` is the loop; `candidate` decides about one file; `completeness` knows what is quiet and who writes;
`tree` walks and opens; `watch` chooses between polling and the hints that `notifier` brings from the kernel;
`mounts` knows what the folder lies on; `reports` says things once.
"""

from __future__ import annotations

from invox_watcher.inbox.candidate import Candidate, Judgement, Outcome, Refusal, Rules, judge
from invox_watcher.inbox.watcher import Inbox, InboxStatus

__all__ = ["Candidate", "Inbox", "InboxStatus", "Judgement", "Outcome", "Refusal", "Rules", "judge"]
