"""`python -m invox_watcher` is `invox-watcher`."""

import sys

from invox_watcher.cli._main import main

sys.exit(main())
