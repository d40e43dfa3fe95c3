# shellcheck shell=bash
# check: the guest can do what it is there for.
set -e
criu --version
criu check
criu check --feature mem_dirty_track
