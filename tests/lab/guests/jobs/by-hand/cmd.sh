# shellcheck shell=bash
# by-hand: one migration with criu's own commands; `migrate` says which, and what it prints.
set -e
[[ $LAB_HOST == dst ]] || bash /opt/job/migrate
meet end
