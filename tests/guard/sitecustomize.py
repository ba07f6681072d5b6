"""Python imports this when it starts, if this folder is on its path."""

import loopback_only

loopback_only.install()
